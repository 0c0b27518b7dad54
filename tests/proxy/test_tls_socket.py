"""The TLS socket of the hot path: as the standard one, except that nothing is ever sent around TLS."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from harness.authority import TestAuthority
from tls_pair import client_context, client_side, server_side, shake, sockets

from egress.proxy.tls_socket import TlsSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "api.example.com"

type Pair = tuple[ssl.SSLSocket, ssl.SSLSocket]


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A standard client, and our server's end, after the handshake."""
    roots = TestAuthority(tmp_path)
    context = roots.server_context(HOST)
    context.sslsocket_class = TlsSocket
    with sockets() as (theirs, ours):
        client = client_side(client_context(roots.ca_file.read_bytes(), request.param), theirs, HOST)
        server = server_side(context, ours)
    with client, server:
        assert shake(client, server) == (None, None)
        assert isinstance(server, TlsSocket)
        yield client, server


def test_what_is_sent_arrives(pair: Pair) -> None:
    """Every call of the hot path, both ways."""
    client, server = pair
    assert server.send(memoryview(b"answer")) == 6
    assert client.recv(100) == b"answer"
    client.send(b"question")
    assert server.recv(3) == b"que"
    buffer = bytearray(10)
    assert server.recv_into(memoryview(buffer)[1:3]) == 2
    assert server.recv_into(buffer, 1) == 1
    assert buffer == b"ist" + bytes(7)
    assert server.recv(100) == b"on"
    with pytest.raises(ssl.SSLWantReadError):
        server.recv(100)
    with pytest.raises(ssl.SSLWantReadError):
        server.recv_into(buffer)


def test_flags_are_refused(pair: Pair) -> None:
    """There is no peek inside TLS."""
    client, server = pair
    client.send(b"x")
    for call in (
        lambda: server.recv(1, socket.MSG_PEEK),
        lambda: server.recv_into(bytearray(1), 1, socket.MSG_PEEK),
        lambda: server.send(b"x", socket.MSG_DONTWAIT),
    ):
        with pytest.raises(ValueError, match="flags"):
            call()


def test_an_end_that_was_not_said_inside_tls_is_an_error(pair: Pair) -> None:
    """Whoever sits on the way can end a TCP connection; the body before it is then not whole."""
    client, server = pair
    client.send(b"half of")
    socket.socket.shutdown(client, socket.SHUT_WR)
    assert server.recv(100) == b"half of"
    with pytest.raises(ssl.SSLEOFError):
        server.recv(100)


@pytest.mark.parametrize("waiting", [b"", b"a body that nobody reads"])
def test_an_end_is_said_inside_tls(pair: Pair, waiting: bytes) -> None:
    """The client reads the answer and then a clean end, even if it was still sending."""
    client, server = pair
    if waiting:
        client.send(waiting)
    server.send(b"answer")
    server.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""


def test_after_the_end_nothing_is_sent_and_what_comes_can_be_thrown_away(pair: Pair) -> None:
    """What comes is read as it is on the wire: enough for a linger, and no plain text goes out."""
    client, server = pair
    server.shutdown(socket.SHUT_WR)
    client.send(b"a body that nobody reads")
    assert len(server.recv(100)) > 0
    client.send(b"more")
    assert server.recv_into(bytearray(100)) > 0
    for send in (server.send, server.sendall):
        with pytest.raises(OSError, match="TLS has ended"):
            send(b"secret")


def test_after_both_ends_were_said_nothing_is_sent(pair: Pair) -> None:
    """`unwrap` leaves a plain socket behind; ours stays mute."""
    client, server = pair
    with pytest.raises(ssl.SSLWantReadError):
        client.unwrap()
    server.unwrap()
    with pytest.raises(OSError, match="TLS has ended"):
        server.send(b"secret")


def test_a_closed_socket_sends_and_reads_nothing(pair: Pair) -> None:
    """Errors, as of any closed socket."""
    _, server = pair
    server.close()
    for call in (lambda: server.send(b"x"), lambda: server.recv(1), lambda: server.recv_into(bytearray(1))):
        with pytest.raises(OSError, match=r"TLS has ended|closed|descriptor"):
            call()

"""The two ends of a TLS connection over a socket pair, driven in turn by one thread until both are done or failed."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 20


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking sockets; whoever wraps one closes what it made of it."""
    one, other = socket.socketpair()
    with one, other:
        for end in (one, other):
            end.settimeout(0)
        yield one, other


def shake(client: ssl.SSLSocket, server: ssl.SSLSocket) -> tuple[OSError | None, OSError | None]:
    """Drive both handshakes; the error of each side, None for the one that finished."""
    errors: dict[ssl.SSLSocket, OSError | None] = {}
    for _ in range(ROUNDS):
        for side in (client, server):
            if side not in errors:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except OSError as error:
                    # Its peer must learn of it: the last bytes of a failed handshake are its alert.
                    errors[side] = error
                    side.close()
                else:
                    errors[side] = None
        if len(errors) == 2:
            return errors[client], errors[server]
    raise AssertionError("the handshake does not end")


def passed(source: ssl.SSLSocket, target: ssl.SSLSocket, data: bytes) -> bytes:
    """What arrives of `data`; with it come the tickets that TLS 1.3 sends after the handshake."""
    assert source.send(data) == len(data)
    return target.recv(65_536)


def client_context(ca: bytes | None, version: ssl.TLSVersion | None = None, *alpn: str) -> ssl.SSLContext:
    """A client that trusts `ca` (PEM), of one version if given; None: it verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=ca.decode())
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_side(
    context: ssl.SSLContext, sock: socket.socket, host: str | None, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """A client's socket before its handshake."""
    return context.wrap_socket(
        sock, server_hostname=host, session=session, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )


def server_side(context: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
    """A server's socket before its handshake."""
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False)

"""Real upstream proxies: HTTP, HTTPS and SOCKS5, that connect to where a test says, and write down what they are asked.

Whatever destination they are asked for, they connect to `target`, so that a name or an address that exists nowhere
leads to the test's own origin; a destination that the proxy under test dialled by itself would lead nowhere.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    type Behaviour = Callable[[UpstreamServer, socket.socket], None]

USER, PASSWORD = "egress", "canary-proxy-password-0123"
_IDLE_SECONDS = 20


@dataclass
class UpstreamServer:
    """A proxy on a free port of `address`. `behave` speaks to each client; it may end with `through`.

    `asked`: each destination as it was written; `said`: every byte before the tunnel; `tunnelled`: those inside.
    """

    behave: Behaviour
    target: tuple[str, int] = ("127.0.0.1", 1)
    tls: ssl.SSLContext | None = None
    signed_in: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    tunnelled: bytearray = field(default_factory=bytearray)
    clients: int = 0
    open: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.clients += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_IDLE_SECONDS)
        self.open += 1
        try:
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            self.behave(self, client)
        except (OSError, ValueError):
            pass
        finally:
            self.open -= 1
            client.close()

    def through(self, client: socket.socket, first: bytes) -> None:
        """Connect, send `first` and carry on until both sides have ended."""
        with socket.create_connection(self.target, timeout=_IDLE_SECONDS) as upstream:
            client.sendall(first)
            self._carry(client, upstream)

    def _carry(self, client: socket.socket, upstream: socket.socket) -> None:
        """One thread for both directions: a TLS socket is not for two."""
        reading = [client, upstream]
        while reading:
            held = isinstance(client, ssl.SSLSocket) and client in reading and client.pending()
            ready = [client] if held else select.select(reading, [], [], _IDLE_SECONDS)[0]
            if not ready:
                return
            for source in ready:
                sink = upstream if source is client else client
                data = source.recv(65536)
                if data:
                    self.tunnelled += data if source is client else b""
                    sink.sendall(data)
                    continue
                reading.remove(source)
                if isinstance(client, ssl.SSLSocket):
                    # TLS has no half-close here: an end is the end.
                    return
                sink.shutdown(socket.SHUT_WR)


def read_head(client: socket.socket) -> bytes:
    """A head, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise OSError("no whole head")
        head += byte
    return head


def take(client: socket.socket, size: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise OSError("too few bytes")
        data += more
    return data


def ask_head(server: UpstreamServer, client: socket.socket) -> bytes:
    """Read a CONNECT, and write down what it asks for."""
    head = read_head(client)
    server.said.append(head)
    method, target, version = head.split(b"\r\n")[0].split(b" ")
    assert (method, version) == (b"CONNECT", b"HTTP/1.1")
    host, _, port = target.decode().rpartition(":")
    server.asked.append((host, int(port)))
    return head


def speak_http(server: UpstreamServer, client: socket.socket) -> None:
    """A proxy that does its work; with `signed_in`, for its user alone."""
    head = ask_head(server, client)
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    if server.signed_in and b"\r\nProxy-Authorization: Basic " + pair + b"\r\n" not in head:
        client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n")
        return
    server.through(client, b"HTTP/1.1 200 Connection established\r\nProxy-Agent: rig\r\n\r\n")


def speak_socks(server: UpstreamServer, client: socket.socket) -> None:
    """A SOCKS5 proxy that does its work; with `signed_in`, for its user alone."""
    if greet_socks(server, client):
        read_socks(server, client)
        server.through(client, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34")


def greet_socks(server: UpstreamServer, client: socket.socket) -> bool:
    """The first messages; False where the client is refused."""
    version, count = take(client, 2)
    assert version == 5
    methods = take(client, count)
    if not server.signed_in:
        client.sendall(b"\x05\x00")
        return True
    if 2 not in methods:
        client.sendall(b"\x05\xff")
        return False
    client.sendall(b"\x05\x02")
    assert take(client, 1) == b"\x01"
    user = take(client, take(client, 1)[0])
    password = take(client, take(client, 1)[0])
    good = (user, password) == (USER.encode(), PASSWORD.encode())
    client.sendall(b"\x01\x00" if good else b"\x01\x01")
    return good


def read_socks(server: UpstreamServer, client: socket.socket) -> None:
    """Read a CONNECT, and write down what it asks for."""
    head = take(client, 4)
    assert head[:3] == b"\x05\x01\x00"
    kind = {1: "ipv4", 3: "name", 4: "ipv6"}[head[3]]
    size = {"ipv4": 4, "ipv6": 16}.get(kind) or take(client, 1)[0]
    raw = take(client, size)
    host = raw.decode() if kind == "name" else socket.inet_ntop({4: socket.AF_INET, 16: socket.AF_INET6}[size], raw)
    server.kinds.append(kind)
    server.said.append(head + raw)
    server.asked.append((host, struct.unpack("!H", take(client, 2))[0]))


def saying(answer: bytes, *, then_close: bool = True) -> Behaviour:
    """A proxy that answers a CONNECT with these bytes, whatever it is asked."""

    def behave(server: UpstreamServer, client: socket.socket) -> None:
        ask_head(server, client)
        client.sendall(answer)
        if not then_close:
            _wait(client)

    return behave


def _wait(client: socket.socket) -> None:
    """Until the other side has closed, or a while."""
    select.select([client], [], [], _IDLE_SECONDS)
    with contextlib.suppress(OSError):
        client.recv(65536)

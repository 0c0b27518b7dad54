"""The stand-in servers: one over TLS that is every registry and a WebSocket echo, and one that speaks PostgreSQL.

That of gRPC is a process of its own, since its library may be in another Python than the tests'.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import socket
import socketserver
import struct
import threading
from typing import TYPE_CHECKING, Any, Self

from compat.shelf import HELLO

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_TYPES = {
    "/v2/tinything/manifests/1": "application/vnd.oci.image.manifest.v1+json",
    ".html": "text/html",
    "/": "text/html",
}
# PostgreSQL's codes of messages before the start-up: 80877103 asks for TLS, 80877104 for GSSAPI.
_BEFORE_START = {80_877_103, 80_877_104}


class _OnListener(socketserver.ThreadingTCPServer):
    """A server on a listener that somebody else made, in the namespace of theirs."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is the client's matter, and its cell tells."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
        self._thread.join(5)
        self.server_close()


class Web(_OnListener):
    """`shelf` over TLS, and `/echo`, a WebSocket."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext, shelf: Mapping[str, bytes]) -> None:
        super().__init__(listener, _Page)
        self.shelf = shelf
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS first, on this connection's own thread."""
        request.settimeout(30)
        with self._context.wrap_socket(request, server_side=True, suppress_ragged_eofs=True) as inside:
            super().finish_request(inside, client_address)
            with contextlib.suppress(OSError):
                inside.unwrap()


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def log_message(self, *words: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].replace("%40", "@").replace("/./", "/")
        if path == "/echo":
            self._echo()
            return
        found = self.server.shelf.get(path)
        body = b"not here\n" if found is None else found.replace(b"@HOST@", self.headers["Host"].encode())
        self.send_response(404 if found is None else 200)
        kind = next((kind for end, kind in _TYPES.items() if path.endswith(end)), "application/octet-stream")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _echo(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + _GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324 -- RFC 6455 says so
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        first, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length & 127)))
        self.wfile.write(bytes((first, len(text))) + text + b"\x88\x02\x03\xe8")
        # The client's own Close, so that it sees no reset.
        self.rfile.read(8)


class Fork(_OnListener):
    """What begins as SOCKS5 goes on to one listener of the proxy, all else to another: the audit then tells which.

    Some clients speak HTTP to whatever a variable for SOCKS names, and the proxy takes both at one listener.
    """

    def __init__(self, listener: socket.socket, connect: Callable[[bool], socket.socket]) -> None:
        super().__init__(listener, _Passed)
        self.connect = connect


class _Passed(socketserver.BaseRequestHandler):
    server: Fork

    def handle(self) -> None:
        first = self.request.recv(1, socket.MSG_PEEK)
        if not first:
            return
        with self.server.connect(first == b"\x05") as onward:
            back = threading.Thread(target=_pump, args=(onward, self.request), daemon=True)
            back.start()
            _pump(self.request, onward)
            back.join(30)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Postgres(_OnListener):
    """Whoever asks is let in, and every query has one row: HELLO (PostgreSQL's protocol 3.0)."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener, _Session)


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.request.settimeout(30)
        while self._start() in _BEFORE_START:
            self.wfile.write(b"N")
        self.wfile.write(_message(b"R", struct.pack(">I", 0)) + _message(b"Z", b"I"))
        while (kind := self.rfile.read(1)) not in {b"", b"X"}:
            self._body()
            if kind == b"Q":
                self.wfile.write(_ROW)

    def _body(self) -> bytes:
        (length,) = struct.unpack(">I", self.rfile.read(4))
        return self.rfile.read(length - 4)

    def _start(self) -> int:
        return int.from_bytes(self._body()[:4])


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


_COLUMN = struct.pack(">H", 1) + b"said\0" + struct.pack(">IHIhIh", 0, 0, 25, -1, 0xFFFFFFFF, 0)
_VALUE = struct.pack(">HI", 1, len(HELLO)) + HELLO.encode()
_ROW = _message(b"T", _COLUMN) + _message(b"D", _VALUE) + _message(b"C", b"SELECT 1\0") + _message(b"Z", b"I")

# Run by the Python that has grpcio: certificate, key, address.
GRPC_SERVER = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
certificate, key, address = sys.argv[1:]
class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: {HELLO.encode()!r})
server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
pair = (open(key, "rb").read(), open(certificate, "rb").read())
server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
server.start()
print(f"listening on http://{{address}}", flush=True)
server.wait_for_termination()
"""

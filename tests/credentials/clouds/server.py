"""A real HTTP or HTTPS server on loopback that answers as one service does, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Asked:
    """One request as it arrived. `headers` by lower-case name."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, each of which must stand there once."""
        return _once(urlsplit(self.target).query)

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form, each of which must stand there once."""
        assert self.headers["content-type"].partition(";")[0] == "application/x-www-form-urlencoded"
        return _once(self.body.decode())

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def _once(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@dataclass(frozen=True)
class Reply:
    """What a service answers; `content` that is not bytes goes out as JSON."""

    status: int
    content: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The bytes of the content."""
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


class Service:
    """A service: `answer` is its behaviour. `faults` are given in place of it, first come first served."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.faults: list[Reply] = []

    def answer(self, asked: Asked) -> Reply:
        """What the service says to a request."""
        raise NotImplementedError

    def reply(self, asked: Asked) -> Reply:
        """Remember a request, and answer it."""
        self.asked.append(asked)
        return self.faults.pop(0) if self.faults else self.answer(asked)


class Fixed(Service):
    """A service that answers everything alike."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__()
        self.replies = list(replies)

    def answer(self, asked: Asked) -> Reply:
        """The next reply; the last one for ever."""
        del asked
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is a test's business."""


@contextlib.contextmanager
def serving(reply: Callable[[Asked], Reply], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port on 127.0.0.1 of a server, TLS with `context`, that lives as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def _any(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            given = reply(Asked(self.command, self.path, headers, self.rfile.read(length)))
            self.send_response(given.status)
            for name, value in {"Content-Length": str(len(given.body)), **given.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(given.body)
            self.close_connection = True

        do_GET = do_POST = do_PUT = _any  # noqa: N815 - http.server calls them so

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

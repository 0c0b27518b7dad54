"""An origin whose every byte is kept, and whose every answer is the test's: one connection, many scripts over time.

A proxy may use a connection again for the next case, so what is answered is looked up for each request, not for each
connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.namespace import daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.namespace import Namespace

    type Script = Callable[[Conversation], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 8.0
_TLS_HANDSHAKE = 0x16


class EndedError(Exception):
    """The proxy ended the connection, or a script does; `torn`: without TLS's own word for the end."""

    def __init__(self, *, torn: bool = False) -> None:
        super().__init__()
        self.torn = torn


@dataclass(eq=False)
class Seen:
    """A connection: all that was received on it, inside TLS if it was TLS, and whether it has ended."""

    received: bytearray = field(default_factory=bytearray)
    ended: threading.Event = field(default_factory=threading.Event)
    carrier: socket.socket | None = None


class Conversation:
    """One connection, as a script sees it. Every read raises EndedError at the end."""

    def __init__(self, carrier: socket.socket, seen: Seen) -> None:
        self.carrier, self.seen = carrier, seen
        self.head = b""
        self._held = b""

    def receive(self) -> bytes:
        """Some bytes."""
        if self._held:
            data, self._held = self._held, b""
            return data
        try:
            data = self.carrier.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise EndedError
        self.seen.received += data
        return data

    def until(self, end: bytes) -> bytes:
        """Everything up to and with `end`."""
        data = b""
        while end not in data:
            data += self.receive()
        cut = data.index(end) + len(end)
        self._held = data[cut:]
        return data[:cut]

    def exactly(self, count: int) -> bytes:
        """`count` bytes."""
        data = b""
        while len(data) < count:
            data += self.receive()
        self._held = data[count:]
        return data[:count]

    def next(self) -> bytes:
        """The next request's head."""
        self.head = self.until(b"\r\n\r\n")
        return self.head

    def body(self) -> bytes:
        """The body that the head announces, its chunks taken apart."""
        lengths = self.values(b"content-length")
        if not self.values(b"transfer-encoding"):
            return self.exactly(int(lengths[0])) if lengths else b""
        data = b""
        while size := int(self.until(b"\r\n"), 16):
            data += self.exactly(size)
            self.exactly(2)
        self.exactly(2)
        return data

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field (lower case) of the head."""
        rows = [line.partition(b":") for line in self.head.split(b"\r\n")[1:]]
        return [value.strip() for key, _, value in rows if key.lower() == name]

    def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self.carrier.sendall(data)
        except OSError:
            raise EndedError from None


def answer_ok(conversation: Conversation) -> None:
    """Read the body, answer `ok`."""
    conversation.body()
    conversation.send(OK)


def answering(data: bytes, *, close: bool = False) -> Script:
    """Answer so to whatever is asked, and then close or not; requests for /after are answered `ok`."""

    def script(conversation: Conversation) -> None:
        conversation.body()
        if b" /after " in conversation.head:
            conversation.send(OK)
            return
        conversation.send(data)
        if close:
            raise EndedError

    return script


class Origin:
    """Listens on ports 80 and 443 of an address. `script` is called once for each request's head.

    Without a context it says nothing, ever, and only keeps what it is sent, as it is sent.
    """

    def __init__(self, namespace: Namespace, address: str, context: ssl.SSLContext | None = None) -> None:
        self.connections: list[Seen] = []
        self.script: Script = answer_ok
        self._context = context
        self._listeners = [namespace.listener(address, port) for port in (80, 443)]
        for listener in self._listeners:
            daemon(lambda at=listener: self._accept(at), "origin")  # type: ignore[misc]

    @contextlib.contextmanager
    def scripted(self, script: Script) -> Iterator[None]:
        """Within the block, requests are answered so."""
        self.script = script
        try:
            yield
        finally:
            self.script = answer_ok

    def marks(self) -> dict[Seen, int]:
        """How much has been received so far, by connection."""
        return {seen: len(seen.received) for seen in tuple(self.connections)}

    def since(self, marks: dict[Seen, int]) -> dict[Seen, bytes]:
        """What has been received since, on each connection that has received something or is new."""
        found = {seen: bytes(seen.received[marks.get(seen, 0) :]) for seen in tuple(self.connections)}
        return {seen: data for seen, data in found.items() if data or seen not in marks}

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                carrier, _ = listener.accept()
            except OSError:
                return
            # What a script has sent is at the proxy when `send` returns: a test may count on it.
            carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen = Seen(carrier=carrier)
            self.connections.append(seen)
            daemon(lambda carrier=carrier, seen=seen: self._serve(carrier, seen), "origin-connection")  # type: ignore[misc]

    def _serve(self, carrier: socket.socket, seen: Seen) -> None:
        carrier.settimeout(120)
        try:
            if self._context is None:
                _listen_only(carrier, seen)
                return
            first = carrier.recv(1, socket.MSG_PEEK)
            if first[:1] == bytes([_TLS_HANDSHAKE]):
                carrier = seen.carrier = self._context.wrap_socket(carrier, server_side=True)
            conversation = Conversation(carrier, seen)
            while conversation.next():
                self.script(conversation)
        except EndedError as end:
            if isinstance(carrier, ssl.SSLSocket) and not end.torn:
                _say_goodbye(carrier)
        except (OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                carrier.shutdown(socket.SHUT_RDWR)
            carrier.close()
            seen.ended.set()

    def close(self) -> None:
        """Stop listening, and drop every connection."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for seen in self.connections:
            if seen.carrier is not None and not seen.ended.is_set():
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(seen.carrier, socket.SHUT_RDWR)
        for seen in self.connections:
            seen.ended.wait(SECONDS)


def _listen_only(carrier: socket.socket, seen: Seen) -> None:
    while data := carrier.recv(65536):
        seen.received += data


def _say_goodbye(carrier: ssl.SSLSocket) -> None:
    """TLS's own end, without which what was sent could have been cut short by anybody."""
    carrier.settimeout(1)
    with contextlib.suppress(OSError, ValueError):
        carrier.unwrap()

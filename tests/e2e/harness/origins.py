"""Recorder origins: servers that write down every connection and every byte, and answer as a test scripts them.

One listener a port takes connections to every address of the namespace. A connection to one of `ALLOWED` counts as
`allowed`, one to any other address as `evil`. TLS is told by its first byte.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.namespace import daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.authority import TestAuthority
    from harness.namespace import Namespace

    type Behaviour = Callable[[Stream], None]
    # The sizes of every connection that there was.
    type Mark = Sequence[tuple[int, int, int]]

_TLS_HANDSHAKE = 0x16
IDLE = 20.0


@dataclass(frozen=True, slots=True)
class Head:
    """A request as an origin read it: the request line's words, and the fields in order, names in lower case."""

    line: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """All values of the field `name` (lower case)."""
        return [value for key, value in self.fields if key == name]


@dataclass
class Connection:
    """What one accepted connection brought. `raw` is what came before TLS, `received` what came inside (or plain)."""

    role: str
    address: str
    port: int
    peer: str
    tls: bool = False
    sni: str | None = None
    raw: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    requests: list[Head] = field(default_factory=list)
    error: str = ""
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How much it has brought by now."""
        return len(self.raw), len(self.received), len(self.requests)

    def after(self, sizes: tuple[int, int, int]) -> Connection:
        """What it brought since it had these sizes."""
        raw, received, requests = sizes
        later = self.raw[raw:], self.received[received:], self.requests[requests:]
        return replace(self, raw=later[0], received=later[1], requests=later[2])


class Stream:
    """The bytes of one connection for a behaviour; what is read is recorded."""

    def __init__(self, carrier: socket.socket, record: Connection) -> None:
        self.carrier, self.record = carrier, record
        self._held = b""

    def receive(self, limit: int = 65536) -> bytes:
        """The next bytes, b"" at the end."""
        if self._held:
            data, self._held = self._held[:limit], self._held[limit:]
            return data
        data = self.carrier.recv(limit)
        self.record.received += data
        return data

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.carrier.sendall(data)

    def until(self, end: bytes) -> bytes | None:
        """Everything up to and with `end`; None if the peer closes first."""
        data = b""
        while end not in data:
            more = self.receive()
            if not more:
                return None
            data += more
        cut = data.index(end) + len(end)
        self._held = data[cut:] + self._held
        return data[:cut]

    def held(self) -> bytes:
        """What was read already but not yet used."""
        return self._held

    def exactly(self, count: int) -> None:
        """Read `count` bytes and forget them."""
        while count > 0:
            data = self.receive(min(count, 65536))
            if not data:
                return
            count -= len(data)

    def request(self) -> Head | None:
        """The next request head, its body left in the stream; None at the end."""
        text = self.until(b"\r\n\r\n")
        if text is None:
            return None
        line, *rows = text[:-4].split(b"\r\n")
        split = [row.partition(b":") for row in rows]
        head = Head(line, tuple((name.lower(), value.strip()) for name, _, value in split))
        self.record.requests.append(head)
        return head

    def body(self, head: Head) -> bytes:
        """The body of `head`'s request, by length or chunks."""
        start = len(self.record.received) - len(self._held)
        if head.values(b"transfer-encoding"):
            while size := self.until(b"\r\n"):
                count = int(size.split(b";")[0], 16)
                self.exactly(count + 2)
                if not count:
                    break
        else:
            self.exactly(int((head.values(b"content-length") or [b"0"])[0]))
        return bytes(self.record.received[start : len(self.record.received) - len(self._held)])


def answer_ok(stream: Stream) -> None:
    """Answer every request with 200 and the words `ok ROLE`."""
    while head := stream.request():
        if head.values(b"expect"):
            stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        stream.body(head)
        body = b"" if head.line.startswith(b"HEAD ") else f"ok {stream.record.role}".encode()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def answer_raw(response: bytes, *, close: bool = False) -> Behaviour:
    """Answer each request with exactly these bytes, and then keep the connection or close it."""

    def behave(stream: Stream) -> None:
        while head := stream.request():
            stream.body(head)
            stream.send(response)
            if close:
                return

    return behave


class Origins:
    """Listeners on `ports` of `addresses`. `connections` only grows."""

    def __init__(
        self,
        namespace: Namespace,
        authority: TestAuthority,
        *,
        allowed: frozenset[str],
        addresses: Sequence[str] = ("0.0.0.0", "::"),
        ports: Sequence[int] = (22, 80, 443, 8080),
    ) -> None:
        self.connections: list[Connection] = []
        self.alpn: tuple[str, ...] = ("http/1.1",)
        self.fault = ""
        self._behaviour: dict[str, Behaviour] = {}
        self._authority, self._allowed = authority, allowed
        self._listeners = [namespace.listener(address, port) for address in addresses for port in ports]
        self._live: dict[socket.socket, str] = {}
        self._closing = False
        self._threads = [daemon(lambda at=at: self._accept(at), "origin") for at in self._listeners]

    @contextlib.contextmanager
    def behaving(
        self, behaviour: Behaviour, *, role: str = "allowed", alpn: tuple[str, ...] = ("http/1.1",), fault: str = ""
    ) -> Iterator[None]:
        """Within the block, connections to `role` are served by `behaviour`, with this ALPN and certificate fault.

        What a proxy keeps open behaves as it did when it was opened, so that it is dropped on the way in and out.
        """
        self._behaviour[role], self.alpn, self.fault = behaviour, alpn, fault
        self.drop(role)
        try:
            yield
        finally:
            del self._behaviour[role]
            self.alpn, self.fault = ("http/1.1",), ""
            self.drop(role)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing:
            try:
                carrier, peer = listener.accept()
            except OSError:
                return
            address, port = carrier.getsockname()[:2]
            role = "allowed" if address in self._allowed else "evil"
            record = Connection(role, address, port, peer[0])
            self.connections.append(record)
            daemon(lambda carrier=carrier, record=record: self._serve(carrier, record), "origin-connection")

    def _serve(self, carrier: socket.socket, record: Connection) -> None:
        self._live[carrier] = record.role
        carrier.settimeout(IDLE)
        try:
            first = carrier.recv(65536, socket.MSG_PEEK)
            if first[:1] == bytes([_TLS_HANDSHAKE]):
                record.raw += first
                del self._live[carrier]
                carrier = self._secure(carrier, record)
                self._live[carrier] = record.role
            behave = self._behaviour.get(record.role, answer_ok)
            behave(Stream(carrier, record))
        except Exception as error:  # noqa: BLE001 -- what a client sends must not end a recorder's thread
            record.error = repr(error)
        finally:
            self._live.pop(carrier, None)
            _hang_up(carrier)
            record.closed.set()

    def _secure(self, carrier: socket.socket, record: Connection) -> socket.socket:
        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            record.sni = name
            tls.context = self._certificate(record.role, name or record.address)

        record.tls = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = choose
        context.load_cert_chain(*self._authority.issue_once("unnamed.test"))  # replaced by `choose`
        try:
            return context.wrap_socket(carrier, server_side=True)
        except BaseException:
            _hang_up(carrier)
            raise

    def _certificate(self, role: str, name: str) -> ssl.SSLContext:
        # The evil origin proves that it is evil.test, and nothing else; the allowed one never proves evil.test.
        own = "evil.test" if role == "evil" else name
        if self.fault == "wrong-name" or (role == "allowed" and own.rstrip(".").endswith("evil.test")):
            own = "other.test"
        return self._authority.server_context(own, self.alpn, self.fault)

    def mark(self) -> Mark:
        """What there is now."""
        return [seen.sizes for seen in self.connections]

    def since(self, mark: Mark) -> list[Connection]:
        """The connections accepted after `mark`, and of those that a proxy had kept what they brought after it."""
        kept = [seen.after(sizes) for seen, sizes in zip(self.connections, mark, strict=False) if seen.sizes != sizes]
        return kept + self.connections[len(mark) :]

    def drop(self, role: str = "") -> None:
        """Close what is open (at one role), as a server does that is tired of idle connections."""
        for carrier, of in list(self._live.items()):
            if role in {"", of}:
                with contextlib.suppress(OSError):
                    # The TLS socket's own would let its thread read on as if the rest were no TLS.
                    socket.socket.shutdown(carrier, socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop, and drop what is open."""
        self._closing = True
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()
        deadline = time.monotonic() + 5
        for record in self.connections:
            record.closed.wait(max(0.0, deadline - time.monotonic()))


def _hang_up(carrier: socket.socket) -> None:
    with contextlib.suppress(OSError):
        carrier.shutdown(socket.SHUT_RDWR)
    carrier.close()

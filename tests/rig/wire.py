"""Clients: a socket that reads HTTP/1 answers, TLS over it, and HTTP/2 with its flow control in the test's hands."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

if TYPE_CHECKING:
    import socket
    from types import TracebackType

SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `fields` has lower-case names; `whole` is every byte of it, to search for what must not be there."""

    status: int
    phrase: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    whole: bytes = b""

    def field(self, name: str) -> str | None:
        """The one value of a field; None without it."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def reason(self) -> str | None:
        """The reason code of our own page; None if the answer is not ours."""
        value = self.field("x-egress-decision")
        return None if value is None else value.split("reason=")[1].split(";")[0]

    @property
    def problem(self) -> dict[str, Any]:
        """The page's object."""
        assert self.field("content-type") == "application/problem+json"
        return json.loads(self.body)


NOTHING = Reply(0)


class Wire:
    """One connection to the proxy. Leaving the block closes it."""

    def __init__(self, carrier: socket.socket) -> None:
        self.carrier = carrier
        self.carrier.settimeout(SECONDS)
        self._held = b""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.carrier.close()

    def send(self, data: bytes) -> Self:
        """Send all of it; a peer that has hung up is for the reader to see."""
        try:
            self.carrier.sendall(data)
        except OSError:
            self.ended = True
        return self

    def receive(self) -> bytes:
        """Some bytes; empty when the peer has hung up, in whatever way."""
        try:
            data = self.carrier.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            data = b""
        self.ended = self.ended or not data
        return data

    def until(self, end: bytes) -> bytes | None:
        """Everything up to and with `end`; None if the peer hangs up before."""
        while end not in self._held:
            data = self.receive()
            if not data:
                return None
            self._held += data
        cut = self._held.index(end) + len(end)
        found, self._held = self._held[:cut], self._held[cut:]
        return found

    def exactly(self, count: int) -> bytes:
        """`count` bytes, or fewer if the peer hangs up."""
        while len(self._held) < count:
            data = self.receive()
            if not data:
                break
            self._held += data
        found, self._held = self._held[:count], self._held[count:]
        return found

    def rest(self) -> bytes:
        """Everything until the peer hangs up."""
        while data := self.receive():
            self._held += data
        found, self._held = self._held, b""
        return found

    def reply(self, method: str = "GET") -> Reply:
        """The next answer; status 0 if the peer hung up instead."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            return NOTHING
        line, *rows = head[:-4].split(b"\r\n")
        split = [row.partition(b":") for row in rows]
        fields = tuple((name.lower().decode(), value.strip().decode("latin-1")) for name, _, value in split)
        words = line.split(b" ", 2)
        body = b"" if method in {"HEAD", "CONNECT"} and words[1][:1] == b"2" else self._body(method, dict(fields))
        phrase = words[2].decode() if len(words) > 2 else ""
        return Reply(int(words[1]), phrase, fields, body, head + body)

    def _body(self, method: str, fields: dict[str, str]) -> bytes:
        if method == "HEAD":
            return b""
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := self.until(b"\r\n"):
                chunk = self.exactly(int(size, 16) + 2)[:-2]
                body += chunk
                if not chunk:
                    break
            return body
        if "content-length" in fields:
            return self.exactly(int(fields["content-length"]))
        return self.rest() if fields.get("connection") == "close" else b""


def trusting(ca: bytes | None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A client's TLS that trusts only this CA; without one, it trusts nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        context.load_verify_locations(cadata=ca.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@dataclass
class _Stream:
    fields: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: bool = False
    trailers: tuple[tuple[str, str], ...] = ()


class Http2:
    """An HTTP/2 client on a TLS connection. `flow_control`: whether what is read is acknowledged."""

    def __init__(self, wire: Wire, *, flow_control: bool = True, strict: bool = True) -> None:
        self.wire = wire
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=strict,
            normalize_outbound_headers=strict,
        )
        self.connection = h2.connection.H2Connection(config)
        self.flow_control = flow_control
        self.streams: dict[int, _Stream] = {}
        self.gone = False
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has for the peer."""
        self.wire.send(self.connection.data_to_send())

    def request(self, fields: list[tuple[str, str]], body: bytes | None = None, *, end: bool = True) -> int:
        """Send a request's head (and body); the stream's number."""
        stream = self.connection.get_next_available_stream_id()
        self.streams[stream] = _Stream()
        self.connection.send_headers(stream, fields, end_stream=end and body is None)
        if body is not None:
            self.connection.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def reply(self, stream: int) -> Reply:
        """The whole answer on a stream; status 0 if it was reset or the connection ended."""
        state = self.streams[stream]
        while not (state.ended or state.reset or self.gone):
            self.pump()
        status = dict(state.fields).get(":status")
        if status is None or state.reset:
            return NOTHING
        body = bytes(state.body)
        text = "\n".join(f"{name}: {value}" for name, value in state.fields).encode()
        return Reply(int(status), "", state.fields, body, text + body)

    def pump(self) -> None:
        """Read once, and act on it."""
        data = self.wire.receive()
        if not data:
            self.gone = True
            return
        try:
            events = self.connection.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.gone = True
            return
        for event in events:
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.gone = True
            return
        state = self.streams.get(getattr(event, "stream_id", None) or 0)
        if state is None:
            return
        match event:
            case h2.events.ResponseReceived():
                state.fields = tuple((str(name), str(value)) for name, value in event.headers)
            case h2.events.TrailersReceived():
                state.trailers = tuple((str(name), str(value)) for name, value in event.headers)
            case h2.events.DataReceived():
                state.body += event.data
                if self.flow_control:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                state.ended = True
            case h2.events.StreamReset():
                state.reset = True
            case _:
                pass


def head(host: str, path: str = "/", method: str = "GET", *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The fields of an HTTP/2 request."""
    return [(":method", method), (":scheme", "https"), (":authority", host), (":path", path), *more]

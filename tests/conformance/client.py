"""A client that sends the bytes it is given and reads answers strictly: what it cannot frame, it does not accept."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

SECONDS = 8.0
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([^\r\n\0]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([^\r\n\0]*)")
_NO_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a strict reader takes it. `whole`: its body came to its end; `closed`: that of the connection."""

    status: int
    fields: tuple[bytes, ...]
    body: bytes
    whole: bool = True
    closed: bool = False
    version: bytes = b"1"
    trailers: tuple[bytes, ...] = ()

    def value(self, name: str) -> str | None:
        """The one value of a field; None without it."""
        found = [field.split(b": ", 1)[1] for field in self.fields if field.lower().startswith(name.encode() + b": ")]
        assert len(found) < 2, f"{name} is given twice"
        return found[0].decode("latin-1") if found else None

    @property
    def reason(self) -> str | None:
        """The reason code of the proxy's own page; None of an answer that is not the proxy's."""
        value = self.value("x-egress-decision")
        return None if value is None else value.split("reason=")[1].split(";")[0]


class Client:
    """One connection to the proxy. All that it received is in `received` (inside TLS, once there is TLS)."""

    def __init__(self, carrier: socket.socket) -> None:
        carrier.settimeout(SECONDS)
        self.socket = carrier
        self.address: str = carrier.getsockname()[0]
        self.received = bytearray()
        self.ended = False
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def secure(self, context: ssl.SSLContext, name: str) -> None:
        """TLS from here on."""
        self.socket = context.wrap_socket(self.socket, server_hostname=name, suppress_ragged_eofs=False)
        self.received.clear()
        self._position = 0

    def send(self, *segments: bytes) -> Self:
        """Send each segment on its own; a proxy that has hung up is for the reader to see."""
        try:
            for segment in segments:
                self.socket.sendall(segment)
        except OSError:
            pass
        return self

    def say_no_more(self) -> None:
        """End the client's direction of the TCP connection."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as plain:
            try:
                plain.shutdown(socket.SHUT_WR)
            except OSError:
                self.ended = True

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def receive(self) -> bool:
        """Read some more; False at the end. Where nothing comes, raises TimeoutError (BlockingIOError, if set so)."""
        try:
            data = self.socket.recv(65536)
        except (TimeoutError, BlockingIOError):
            raise
        except OSError:
            data = b""
        self.received += data
        self.ended = self.ended or not data
        return bool(data)

    def wait(self, seconds: float) -> None:
        """Read what comes until nothing has come for so long, or the connection ends."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while self.receive():
                pass
        self.socket.settimeout(SECONDS)

    def rest(self) -> bytes:
        """What comes until the proxy ends the connection."""
        while self.receive():
            pass
        return bytes(self.received[self._position :])

    def answer(self, method: str = "GET") -> Answer | None:
        """The next answer, final or interim; None if the connection ends before a head is whole."""
        end = self._find(b"\r\n\r\n")
        if end < 0:
            return None
        line, *rows = bytes(self.received[self._position : end]).split(b"\r\n")
        self._position = end + 4
        match = _STATUS_LINE.fullmatch(line)
        assert match, f"the client got a bad status line: {line!r}"
        assert all(_FIELD.fullmatch(row) for row in rows), f"the client got a bad field: {rows!r}"
        return self._with_body(method, int(match[2]), tuple(rows), match[1])

    def _find(self, wanted: bytes) -> int:
        while (end := self.received.find(wanted, self._position)) < 0:
            if not self.receive():
                return -1
        return end

    def _with_body(self, method: str, status: int, rows: tuple[bytes, ...], version: bytes) -> Answer:
        fields = [(name.lower(), value) for name, value in (row.split(b": ", 1) for row in rows)]
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        assert len(lengths) + len(codings) < 2, f"the client got two lengths: {rows!r}"
        if method == "HEAD" or status < 200 or status in _NO_BODY or (method == "CONNECT" and status < 300):
            return Answer(status, rows, b"", version=version)
        if codings:
            assert [coding.lower() for coding in codings] == [b"chunked"]
            assert version == b"1"
            return self._chunked(status, rows)
        if lengths:
            body = self._exactly(int(lengths[0]))
            whole = len(body) == int(lengths[0])
        else:
            body = self.rest()
            self._position = len(self.received)
            return Answer(status, rows, body, closed=True, version=version)
        return Answer(status, rows, body, whole, version=version)

    def _exactly(self, count: int) -> bytes:
        while len(self.received) - self._position < count and self.receive():
            pass
        data = bytes(self.received[self._position : self._position + count])
        self._position += len(data)
        return data

    def _chunked(self, status: int, rows: tuple[bytes, ...]) -> Answer:
        body = b""
        while (end := self._find(b"\r\n")) >= 0:
            line = bytes(self.received[self._position : end])
            assert re.fullmatch(rb"[0-9A-Fa-f]{1,8}", line), f"the client got a bad chunk: {line!r}"
            size = int(line, 16)
            if not size:
                return self._trailers(status, rows, body, end)
            self._position = end + 2
            data = self._exactly(size + 2)
            body += data[:size]
            if len(data) < size + 2:
                break
            assert data.endswith(b"\r\n"), f"the client got a bad chunk: {data!r}"
        return Answer(status, rows, body, whole=False)

    def _trailers(self, status: int, rows: tuple[bytes, ...], body: bytes, start: int) -> Answer:
        self._position = start
        end = self._find(b"\r\n\r\n")
        if end < 0:
            return Answer(status, rows, body, whole=False)
        trailers = tuple(bytes(self.received[start + 2 : end]).split(b"\r\n")) if end > start else ()
        assert all(_FIELD.fullmatch(row) for row in trailers), f"the client got a bad trailer: {trailers!r}"
        self._position = end + 4
        return Answer(status, rows, body, trailers=trailers)

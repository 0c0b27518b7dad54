"""HTTP/2 by raw frames: what is sent is not checked, so that a bad header list really goes out (RFC 9113, RFC 7541)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import hpack
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.attacker import Attacker

    type Field = tuple[str, str]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class StreamAnswer:
    """What came back on one stream. `reset` is an error code; `ended` is END_STREAM or a reset."""

    headers: list[Field] = field(default_factory=list)
    trailers: list[Field] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> int | None:
        """The last status; None if none came."""
        return next((int(value) for name, value in reversed(self.headers) if name == ":status"), None)


class Http2:
    """The client's side of one HTTP/2 connection over an attacker's TLS."""

    def __init__(self, attacker: Attacker) -> None:
        self._attacker = attacker
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._held = b""
        self.streams: dict[int, StreamAnswer] = {}
        self.gone: int | None = None
        self.closed = False
        attacker.send(PREFACE + SettingsFrame(0, settings={}).serialize())

    def encode(self, fields: Sequence[Field]) -> bytes:
        """A header block, each field as a literal that is never indexed, byte for byte."""
        raw = [hpack.NeverIndexedHeaderTuple(_raw(name), _raw(value)) for name, value in fields]
        return self._encoder.encode(raw, huffman=False)

    def request(
        self, stream: int, fields: Sequence[Field], body: bytes | None = None, trailers: Sequence[Field] | None = None
    ) -> None:
        """Send a request on `stream`."""
        flags = ["END_HEADERS"] + ([] if body is not None or trailers else ["END_STREAM"])
        out = HeadersFrame(stream, data=self.encode(fields), flags=flags).serialize()
        if body is not None:
            out += DataFrame(stream, data=body, flags=[] if trailers else ["END_STREAM"]).serialize()
        if trailers:
            ends = ["END_HEADERS", "END_STREAM"]
            out += HeadersFrame(stream, data=self.encode(trailers), flags=ends).serialize()
        self.streams[stream] = StreamAnswer()
        self._attacker.send(out)

    def wait(self, stream: int, patience: float = 3.0) -> StreamAnswer:
        """Read frames until `stream` ends, the connection does, or patience is over."""
        answer = self.streams.setdefault(stream, StreamAnswer())
        deadline = time.monotonic() + patience
        while not answer.ended and not self.closed and (left := deadline - time.monotonic()) > 0:
            if data := self._attacker.receive(left):
                self.feed(data)
            elif self._attacker.answers.ended:
                self.closed = True
        return answer

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._held += data
        while len(self._held) >= 9:
            try:
                frame, length = Frame.parse_frame_header(memoryview(self._held[:9]))
            except HyperframeError:
                self.closed = True
                return
            if len(self._held) < 9 + length:
                return
            frame.parse_body(memoryview(self._held[9 : 9 + length]))
            self._held = self._held[9 + length :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        answer = self.streams.setdefault(frame.stream_id, StreamAnswer())
        match frame:
            case SettingsFrame() if "ACK" not in frame.flags:
                self._attacker.send(SettingsFrame(0, flags=["ACK"]).serialize())
            case PingFrame() if "ACK" not in frame.flags:
                self._attacker.send(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
            case HeadersFrame() | ContinuationFrame():
                fields = [(_text(name), _text(value)) for name, value in self._decoder.decode(frame.data, raw=True)]
                (answer.trailers if answer.status and answer.status >= 200 else answer.headers).extend(fields)
            case DataFrame():
                answer.body += frame.data
                if frame.flow_controlled_length:
                    update = frame.flow_controlled_length
                    both = (0, frame.stream_id)
                    grants = [WindowUpdateFrame(at, window_increment=update).serialize() for at in both]
                    self._attacker.send(b"".join(grants))
            case RstStreamFrame():
                answer.reset, answer.ended = frame.error_code, True
            case GoAwayFrame():
                self.gone, self.closed = frame.error_code, True
        if "END_STREAM" in frame.flags:
            answer.ended = True


def _raw(text: str) -> bytes:
    return text.encode("latin-1")


def _text(data: bytes | str) -> str:
    return data.decode("latin-1") if isinstance(data, bytes) else data

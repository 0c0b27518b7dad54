"""Bodies on their way from one end to the other: read by one framing, written by our own, with bounded buffers.

INVARIANT bounded: one buffer a worker is shared by all its connections. Its contents are used up, or copied by the
sender that has to wait, before anything else runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.wire.chunked import ChunkedChecker
from egress.wire.head import Chunked, ContentLength, Framing, UntilClose

if TYPE_CHECKING:
    from egress.gate.body import Buffer
    from egress.proxy.endpoint import Endpoint
    from egress.wire.fields import Fields

SHARED = 1 << 18


class BodyError(Exception):
    """A body that does not keep its framing, or ends before its end (`early`)."""

    def __init__(self, *, early: bool) -> None:
        super().__init__("early" if early else "malformed")
        self.early = early


class IncomingBody:
    """A body as its bytes come. `rest` is what was read beyond its end; `trailers` are known at the end."""

    __slots__ = ("_buffer", "_checker", "_left", "_source", "_until_close", "done", "rest", "trailers")

    def __init__(self, source: Endpoint, framing: Framing | UntilClose, rest: bytes, buffer: memoryview) -> None:
        self._source = source
        self._buffer = buffer
        self._checker = ChunkedChecker() if isinstance(framing, Chunked) else None
        self._left = framing.length if isinstance(framing, ContentLength) else 0
        self._until_close = isinstance(framing, UntilClose)
        self.rest = rest
        self.trailers: Fields = ()
        self.done = self._checker is None and not self._until_close and not self._left

    def here(self) -> Buffer:
        """What of the body came with the head, without reading; may be empty. Raises BodyError."""
        data, self.rest = self.rest, b""
        return self._take(data) if data and not self.done else self._keep(data)

    async def next(self) -> Buffer:
        """More of the body; valid until the next wait. Empty where framing alone came. Raises BodyError and OSError."""
        room = self._buffer
        if self._checker is None and not self._until_close and self._left < len(room):
            room = room[: self._left]
        size = await self._source.receive_into(room)
        if size:
            return self._take(room[:size])
        if not self._until_close:
            raise BodyError(early=True)
        self.done = True
        return b""

    def _keep(self, data: bytes) -> Buffer:
        self.rest = data
        return b""

    def _take(self, data: Buffer) -> Buffer:
        if self._checker is not None:
            return self._unchunk(self._checker, data)
        if self._until_close:
            return data
        if len(data) > self._left:
            self.rest = bytes(data[self._left :])
            data = data[: self._left]
        self._left -= len(data)
        self.done = not self._left
        return data

    def _unchunk(self, checker: ChunkedChecker, data: Buffer) -> Buffer:
        whole = bytes(data)
        if checker.feed(whole) is not None:
            raise BodyError(early=False)
        if checker.complete:
            self.done = True
            self.rest = whole[checker.consumed :]
            self.trailers = checker.trailers
        spans = checker.spans
        if len(spans) == 1:
            return memoryview(whole)[spans[0][0] : spans[0][1]]
        return b"".join([whole[start:end] for start, end in spans])


def chunk(data: Buffer) -> bytes:
    """Data as one chunk; nothing for none, since an empty chunk would end the body."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if len(data) else b""


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a chunked body."""
    return b"0\r\n" + trailers + b"\r\n"

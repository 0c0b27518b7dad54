"""Chunked bodies (RFC 9112 section 7.1): a chunk's header, the trailer section, and a checker for a passing body.

1. A chunk size is hexadecimal digits and nothing else, at most 2**53 - 1.
2. Extensions follow the size at once, in RFC 9112's grammar without the optional whitespace, and are bounded.
3. Lines end in CRLF, and so does each chunk's data.
4. Trailers are fields like any other, but none that frames, routes or authorises a message (RFC 9110 section 6.5.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from egress.wire.fields import TOKEN, Fields, HeadLimits, parse_fields, part_of_fields
from egress.wire.framing import LARGEST_LENGTH
from egress.wire.outcome import NeedMore, Reject, malformed, too_large

TRAILER_LIMITS = HeadLimits(bytes=8192, fields=32)
EXTENSION_LENGTH = 256
# Over one body; without it a stream of one-byte chunks could carry hundreds of times its size in extensions.
EXTENSIONS_LENGTH = 16_384

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rb";" + TOKEN + rb"++(?:=(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?"
_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*+)\r\n")
_PART_OF_HEADER = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+(?:;[\t -~\x80-\xff]*+)?\r?)?\Z")
_LONGEST_HEADER = 16 + EXTENSION_LENGTH + 2

_BAD_HEADER = malformed("a chunk does not begin with its size in plain hexadecimal")
_HEADER_TOO_LARGE = too_large("a chunk's extensions are longer than the limit")
_CHUNK_TOO_LARGE = too_large("a chunk's size is beyond any length")
_BAD_END = malformed("a chunk's data does not end where its size says")
_TRAILERS_TOO_LARGE = too_large("the trailers are longer than the limit")
_FORBIDDEN_TRAILER = malformed("a trailer names a field that only a head may hold")
_AFTER_END = malformed("the body is complete, nothing more belongs to it")

_FORBIDDEN_IN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect "
    b"host keep-alive max-forwards proxy-authenticate proxy-authorization proxy-connection range set-cookie te trailer "
    b"transfer-encoding upgrade via www-authenticate".split()
)


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The line before a chunk's data. `size` 0 is the last chunk; `length` is the line's own, with CRLF."""

    size: int
    extensions: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailer section that follows the last chunk. `length` counts its empty line."""

    fields: Fields
    length: int


def parse_chunk_header(data: bytes | bytearray, start: int = 0) -> ChunkHeader | NeedMore | Reject:
    """Read the chunk header that begins at `data[start]`."""
    end = data.find(b"\n", start, start + _LONGEST_HEADER)
    if end < 0:
        if len(data) - start >= _LONGEST_HEADER:
            return _HEADER_TOO_LARGE
        return NeedMore() if _PART_OF_HEADER.match(data, start) else _BAD_HEADER
    header = _HEADER.fullmatch(data, start, end + 1)
    if header is None:
        return _BAD_HEADER
    size = int(header[1], 16)
    if size > LARGEST_LENGTH:
        return _CHUNK_TOO_LARGE
    return ChunkHeader(size, header[2], end + 1 - start)


def parse_trailers(
    data: bytes | bytearray, start: int = 0, limits: HeadLimits = TRAILER_LIMITS
) -> Trailers | NeedMore | Reject:
    """Read the trailer section that begins at `data[start]`, right after the last chunk's line."""
    if data.startswith(b"\r\n", start):
        return Trailers((), 2)
    end = data.find(b"\r\n\r\n", start, start + limits.bytes)
    if end < 0:
        if len(data) - start >= limits.bytes:
            return _TRAILERS_TOO_LARGE
        part = part_of_fields(data, limits, NeedMore(start))
        return part if isinstance(part, Reject) else NeedMore()
    fields = parse_fields(bytes(memoryview(data)[start : end + 2]), 0, end + 2 - start, limits)
    if isinstance(fields, Reject):
        return fields
    if not _FORBIDDEN_IN_TRAILERS.isdisjoint([name.lower() for name, _ in fields]):
        return _FORBIDDEN_TRAILER
    return Trailers(fields, end + 4 - start)


class _Part(Enum):
    HEADER = 0
    DATA = 1
    DATA_END = 2
    TRAILERS = 3
    DONE = 4


class ChunkedChecker:
    """Follows a chunked body as it passes and says at once when its framing breaks. Holds no data of the body.

    After each `feed`: `spans` are the (start, end) offsets, in what was just fed, of the body's own data; `consumed`
    is how much of what was just fed belongs to the message at all, which is less than all of it only when `complete`.
    `trailers` are the trailer fields, known once complete.
    """

    __slots__ = ("_extensions", "_held", "_left", "_part", "_rejected", "consumed", "spans", "trailers")

    def __init__(self) -> None:
        self._part = _Part.HEADER
        self._held = bytearray()
        self._left = 0
        self._extensions = 0
        self._rejected: Reject | None = None
        self.consumed = 0
        self.spans: list[tuple[int, int]] = []
        self.trailers: Fields = ()

    @property
    def complete(self) -> bool:
        """Whether the last chunk and the trailer section have passed."""
        return self._part is _Part.DONE

    def feed(self, data: bytes | bytearray) -> Reject | None:
        """Check the next bytes. A Reject is final: every later call gives it again."""
        self.spans = []
        self.consumed = 0
        if self._rejected is None and self._part is _Part.DONE and data:
            self._rejected = _AFTER_END
        position = 0
        while self._rejected is None and position < len(data) and self._part is not _Part.DONE:
            position = self._step(data, position)
        self.consumed = position
        return self._rejected

    def _step(self, data: bytes | bytearray, position: int) -> int:
        match self._part:
            case _Part.DATA:
                end = min(len(data), position + self._left)
                self.spans.append((position, end))
                self._left -= end - position
                if not self._left:
                    self._part = _Part.DATA_END
                return end
            case _Part.HEADER | _Part.DATA_END | _Part.TRAILERS:
                return self._text(data, position)
            case _Part.DONE:
                return position
            case _:
                assert_never(self._part)

    def _text(self, data: bytes | bytearray, position: int) -> int:
        """Read a part that is text, joined with what was held of it; what is incomplete is held, within its limit."""
        held = len(self._held)
        # No part of text is longer than the trailer section, so no more than that needs to be joined.
        self._held += data[position : position + TRAILER_LIMITS.bytes - held]
        outcome = self._read(self._held)
        if isinstance(outcome, Reject):
            self._rejected = outcome
            return position
        if isinstance(outcome, NeedMore):
            return len(data)
        self._held.clear()
        return position + outcome - held

    def _read(self, text: bytearray) -> int | NeedMore | Reject:
        """The length of the part of text that `text` begins with, and the change to the part that follows."""
        if self._part is _Part.DATA_END:
            if text == b"\r":
                return NeedMore()
            self._part = _Part.HEADER
            return 2 if text.startswith(b"\r\n") else _BAD_END
        if self._part is _Part.TRAILERS:
            trailers = parse_trailers(text)
            return self._end(trailers) if isinstance(trailers, Trailers) else trailers
        header = parse_chunk_header(text)
        return self._begin(header) if isinstance(header, ChunkHeader) else header

    def _begin(self, header: ChunkHeader) -> int | Reject:
        self._extensions += len(header.extensions)
        if self._extensions > EXTENSIONS_LENGTH:
            return _HEADER_TOO_LARGE
        self._left = header.size
        self._part = _Part.DATA if header.size else _Part.TRAILERS
        return header.length

    def _end(self, trailers: Trailers) -> int:
        self._part = _Part.DONE
        self.trailers = trailers.fields
        return trailers.length

"""A step of a body's path that undoes gzip or deflate (RFC 9110, section 8.4.1), as it streams.

INVARIANT bounded: what comes out is at most `RATIO` times what came in, and a little: a body that grows more is broken
off. One that ends early, is damaged, or goes on behind its end is broken off as well.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress.gate.body import Buffer

# Text that people write shrinks to a tenth, logs to a fiftieth; nothing but zeros to a thousandth.
RATIO: Final = 128
SPARE: Final = 1 << 20

CODINGS: Final = frozenset({b"gzip", b"x-gzip", b"deflate"})

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_HEAD: Final = 2
_ZLIB_CHECK: Final = 31
_DEFLATE_METHOD: Final = 8


class UnreadableError(Exception):
    """A body that cannot be read, in the middle: nothing of it may go on."""


class Inflate:
    """One body in one coding of `CODINGS`."""

    def __init__(self, coding: bytes) -> None:
        self._gzip = coding != b"deflate"
        self._stream: zlib._Decompress | None = None
        self._begun = b""
        self._in = 0
        self._out = 0

    def feed(self, data: Buffer) -> bytes:
        """The next bytes, decoded. Raises UnreadableError."""
        rest = bytes(data)
        self._in += len(rest)
        out: list[bytes] = []
        while rest:
            if self._stream is None:
                rest = self._begin(rest)
                if self._stream is None:
                    break
            rest = self._decode(self._stream, rest, out)
        return b"".join(out)

    def end(self) -> bytes:
        """Raises UnreadableError unless the coded text was whole."""
        if self._begun or self._stream is not None:
            raise UnreadableError("its coding has no end")
        return b""

    def _decode(self, stream: zlib._Decompress, data: bytes, out: list[bytes]) -> bytes:
        """Decode into `out`; what is left of the input."""
        room = SPARE + RATIO * self._in - self._out
        try:
            part = stream.decompress(data, room + 1)
        except zlib.error:
            raise UnreadableError("its coding is broken") from None
        if len(part) > room:
            raise UnreadableError("it grows too much where it is decoded")
        self._out += len(part)
        out.append(part)
        if not stream.eof:
            return stream.unconsumed_tail
        self._stream = None
        if stream.unused_data and not self._gzip:
            raise UnreadableError("its coding goes on behind its end")
        return stream.unused_data

    def _begin(self, data: bytes) -> bytes:
        """Begin a stream, of which gzip may have several in a row (RFC 1952, section 2.2)."""
        if self._gzip:
            self._stream = zlib.decompressobj(_GZIP)
            return data
        # Half the world sends deflate without the wrapper that RFC 9110, section 8.4.1.2, asks for.
        if self._out:
            raise UnreadableError("its coding goes on behind its end")
        whole = self._begun + data
        if len(whole) < _ZLIB_HEAD:
            self._begun = whole
            return b""
        self._begun = b""
        wrapped = whole[0] & 0x0F == _DEFLATE_METHOD and (whole[0] << 8 | whole[1]) % _ZLIB_CHECK == 0
        self._stream = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        return whole

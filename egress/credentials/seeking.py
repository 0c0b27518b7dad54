"""Finds placeholders in what goes up, in the forms in which clients write a credential down.

1. plain, also in UTF-16 or UTF-32; percent-encoded, also twice; escaped for JSON; hexadecimal; base64 of it, alone or
   amid other text
2. a form may end in a later piece than it began in: `reach` bytes of what went before belong to the next piece
3. another form (compressed, split up, enciphered) is not found: this shows mistakes and simple theft, and a placeholder
   is worth nothing to whoever gets it
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# As many bytes of a body are looked at.
LOOKED_AT: Final = 64 * 1024
# `\u0041` for one character.
_LONGEST_ESCAPE: Final = 6
_ESCAPE = re.compile(rb"\\(?:u00([0-7][0-9A-Fa-f])|([^u]))", re.DOTALL)


class Seeker:
    """Knows the placeholders, by their secrets' names. `reach`: as many bytes a form may have, less one."""

    __slots__ = ("_needles", "reach")

    def __init__(self, placeholders: Mapping[str, str]) -> None:
        self._needles = tuple(
            (needle, name) for name, text in placeholders.items() for needle in _needles(text.encode("ascii"))
        )
        self.reach = max(map(len, placeholders.values()), default=0) * _LONGEST_ESCAPE

    def names_in(self, data: bytes) -> tuple[str, ...]:
        """The secrets whose placeholders stand in `data`."""
        found = (name for reading in _readings(data) for needle, name in self._needles if needle in reading)
        return tuple(dict.fromkeys(found))


class BodyLook:
    """One body as it passes: looked at piece by piece, before each goes on."""

    __slots__ = ("_before", "_left", "_seeker", "found")

    def __init__(self, seeker: Seeker) -> None:
        self._seeker = seeker
        self._before = b""
        self._left = LOOKED_AT
        self.found: tuple[str, ...] = ()

    def finds(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether a placeholder ends in this piece: then it must not go on, nor anything after it."""
        if self._left > 0 and not self.found:
            piece = bytes(data[: self._left])
            self._left -= len(piece)
            window = self._before + piece
            self.found = self._seeker.names_in(window)
            self._before = window[-self._seeker.reach :]
        return bool(self.found)

    @property
    def done(self) -> bool:
        """Whether nothing more is looked at."""
        return self._left <= 0


def _needles(text: bytes) -> tuple[bytes, ...]:
    hexadecimal = text.hex()
    found = (text, *_in_base64(text), hexadecimal.encode(), hexadecimal.upper().encode())
    return tuple(dict.fromkeys(found))


def _in_base64(text: bytes) -> Iterator[bytes]:
    """The characters that stand for `text` alone, wherever it begins in the bytes that were encoded."""
    for shift in range(3):
        first = -(-shift * 8 // 6)
        last = (shift + len(text)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * shift + text)[first:last]


def _readings(data: bytes) -> Iterator[bytes]:
    """The data as it stands, and as it reads without its escapes."""
    reading = data
    for _ in range(3):
        yield reading
        if b"\\" in reading:
            yield _ESCAPE.sub(_unescaped, reading)
        if b"\0" in reading:
            yield reading.replace(b"\0", b"")
        if b"%" not in reading:
            return
        reading = unquote_to_bytes(reading)


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)]) if match[1] is not None else match[2]

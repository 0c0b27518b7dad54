"""Text of a record as a cell may have it. INVARIANT hostile-text: one line, of a width that every terminal agrees on.

What `printable` leaves is a terminal's to draw, and terminals differ in what they do with characters that change the
one before them (accents in hundreds, emoji that melt into one). Those are escaped too, so that columns stay columns.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from rich.cells import cell_len, set_cell_size

from egress.audit import printable

_ELLIPSIS: Final = "\u2026"
# Letters of flags, and colours of skin: two of them, or one after an emoji, are drawn as one picture.
_MELTING: Final = (range(0x1F1E6, 0x1F200), range(0x1F3FB, 0x1F400))


def shown(text: str, limit: int = 4_096) -> str:
    """`text` for the screen, of no more than about `limit` characters."""
    cut = text if len(text) <= limit else f"{text[:limit]}{_ELLIPSIS}"
    safe = printable(cut)
    return safe if safe.isascii() else "".join(char if _stands_alone(char) else _escape(char) for char in safe)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """`text` made harmless, in exactly `width` cells; what is cut ends with an ellipsis."""
    # One character has one cell at least here, so that more than `width` of them never matter.
    safe = shown(text, width + 1)
    room = cell_len(safe)
    if room > width:
        return set_cell_size(safe, max(width - 1, 0)) + _ELLIPSIS[: min(width, 1)]
    return " " * (width - room) + safe if right else safe + " " * (width - room)


def _stands_alone(char: str) -> bool:
    return not unicodedata.category(char).startswith("M") and not any(ord(char) in some for some in _MELTING)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 -- the widths of Python's escapes

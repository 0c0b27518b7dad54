"""Text from the wire made harmless: what may be stored, what may be printed, and queries without their values.

INVARIANT hostile-text: nothing that these functions return can move a cursor, start an escape sequence, reorder a
line, end a line, or make an insert fail.
"""

from __future__ import annotations

import re
import unicodedata

MASK = "***"
_LONGEST_NAME = 64
# A query item without `=` is a name (`?acl`) or a bare value (`?eyJhbGci...`). Only what looks like a word is a name.
_BARE_NAME = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,32}")
# Letters of right-to-left scripts turn the digits and punctuation around them about, without any control character.
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def storable(value: str | bytes, limit: int) -> str:
    r"""`value` as SQLite text of about `limit` characters at most, whatever it holds.

    Characters that no reader can print (controls, bidi controls, separators, lone surrogates, NUL) become `\x1b`,
    `\u202e` or `\U000e0001`. What is longer is cut, with `…[+N]` for the N characters that are missing.
    """
    if type(value) is str and len(value) <= limit and value.isprintable():
        return value
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    kept = "".join(char if char.isprintable() else _escape(char) for char in text[:limit])
    if len(text) <= limit and len(kept) <= limit:
        return kept
    return f"{kept[:limit]}…[+{len(text) - limit}]" if len(text) > limit else f"{kept[:limit]}…"


def printable(text: str) -> str:
    """`text` for a terminal or a log line: one line, no controls, nothing that changes the order of what follows it.

    The stored text is escaped already; this holds also for a database that something else has written.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _shows_in_place(char) else _escape(char) for char in text)


def mask_query(query: str) -> str:
    """The query with its names kept and every value replaced by `***`: `a=1&b=` gives `a=***&b=***`.

    An item without `=` is kept if it looks like a name (up to 32 letters, digits, `_.-[]`), else masked whole, and
    a name of over 64 characters is no name. Masking twice is masking once.
    """
    return "&".join([_mask_item(item) for item in query.split("&")]) if "&" in query else _mask_item(query)


def _mask_item(item: str) -> str:
    name, equals, _ = item.partition("=")
    if not equals:
        return item if not item or _BARE_NAME.fullmatch(item) else MASK
    return f"{name if len(name) <= _LONGEST_NAME else MASK}={MASK}"


def _shows_in_place(char: str) -> bool:
    return char.isprintable() and unicodedata.bidirectional(char) not in _RIGHT_TO_LEFT


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 -- the widths of Python's own escapes
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 -- likewise

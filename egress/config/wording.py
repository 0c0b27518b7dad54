"""How problems in files are worded: places, quoted text, suggestions. No type names of ours, no period at the end."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

type Place = tuple[str | int, ...]
"""Where a value stands in a document: keys and indexes from the root."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_SHOWN = 1000
_QUOTED = 80


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal might act on, cut to a length that people read."""
    cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut)


def quoted(text: object) -> str:
    """The user's own text in backticks."""
    whole = str(text)
    if not whole:
        return "empty text"
    return f"`{printable(whole if len(whole) <= _QUOTED else whole[:_QUOTED] + '...')}`"


def place_text(place: Place) -> str:
    """`("rules", 1, "ports")` as `rules[1].ports`."""
    out = ""
    for part in place:
        if isinstance(part, int):
            out += f"[{part}]"
        elif _PLAIN_KEY.match(part):
            out += f".{part}" if out else part
        else:
            out += f'["{printable(part)}"]'
    return out


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for the nearest known word; without one near enough, the list of known words."""
    words = sorted(known)
    near = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return "write " + one_of(words) if words else ""


def one_of(words: Iterable[str]) -> str:
    """`a`, `b` or `c`."""
    marked = [f"`{word}`" for word in words]
    if len(marked) <= 1:
        return "".join(marked)
    return ", ".join(marked[:-1]) + " or " + marked[-1]


def kind_of(value: object) -> str:
    """What a YAML author calls a value of this type."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true/false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"

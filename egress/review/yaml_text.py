"""Writes plain values as YAML that every reader takes for the same values: whatever could be read otherwise is quoted.

1. text stands plain only if YAML 1.1 and 1.2 both read it as that text
2. a list of scalars is written in one line, everything else as a block
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

type Plain = str | int | bool | Sequence[Plain] | Mapping[str, Plain] | None

_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9/._-]*(?:/\*{1,2})*\Z")
_DOTTED = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]{1,2})?\Z")
# A moment of RFC 3339. YAML 1.1 has a type for it, and reads the same moment.
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_SENTENCE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?: [A-Za-z0-9]+)+\Z")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_WIDTH: Final = 100
_LAST_OF_FOUR_DIGITS: Final = 0xFFFF


def scalar(value: str | bool | int | None) -> str:  # noqa: FBT001 -- a value, not a switch
    """One value, quoted if it must be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if _stands_plain(value) else quote(value)


def quote(text: str) -> str:
    """`text` in double quotes, with everything escaped that does not print."""
    return '"' + "".join(_ESCAPED.get(char) or (char if char.isprintable() else _escape(char)) for char in text) + '"'


def flow(values: Sequence[Plain]) -> str:
    """Scalars in one line: `[a, b]`."""
    return "[" + ", ".join(_one(value) for value in values) + "]"


def lines(value: Mapping[str, Plain], indent: int = 0) -> list[str]:
    """A mapping as lines of YAML without their ends."""
    pad = " " * indent
    written: list[str] = []
    for key, item in value.items():
        one = _one(item)
        if one and len(pad) + len(key) + len(one) <= _WIDTH:
            written.append(f"{pad}{scalar(key)}: {one}")
        elif isinstance(item, str | int | None):
            written.append(f"{pad}{scalar(key)}: {scalar(item)}")
        elif isinstance(item, Mapping):
            written += [f"{pad}{scalar(key)}:", *lines(item, indent + 2)]
        else:
            written += [f"{pad}{scalar(key)}:", *_items(item, indent + 2)]
    return written


def text(value: Mapping[str, Plain]) -> str:
    """A mapping as a whole YAML document."""
    return "".join(f"{line}\n" for line in lines(value))


def _items(values: Sequence[Plain], indent: int) -> list[str]:
    written: list[str] = []
    pad = " " * indent
    for item in values:
        if isinstance(item, str | int | None):
            written.append(f"{pad}- {scalar(item)}")
        elif isinstance(item, Mapping):
            first, *others = lines(item, indent + 2) or [f"{pad}  {{}}"]
            written += [f"{pad}- {first.lstrip()}", *others]
        else:
            written.append(f"{pad}- {flow(item)}")
    return written


def _one(value: Plain) -> str:
    """The value in one line; empty text for what needs more."""
    if isinstance(value, str | int | None):
        return scalar(value)
    if not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    if isinstance(value, Mapping) or not all(isinstance(item, str | int | None) for item in value):
        return ""
    return flow(value)


def _stands_plain(value: str) -> bool:
    if value.lower() in _WORDS or value.lower() in {".inf", ".nan"}:
        return False
    return any(pattern.match(value) for pattern in (_PLAIN, _DOTTED, _MOMENT, _SENTENCE))


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= _LAST_OF_FOUR_DIGITS else f"\\U{code:08x}"

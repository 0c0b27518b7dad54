"""Reads JSON that every reader reads alike, or none: what two servers could take for two values is refused.

1. UTF-8 without a byte order mark; no lone surrogate, not even escaped
2. no name twice in an object, nor in two spellings that differ in case only: some servers take the first, some the
   last, and some compare names without their case
3. no NaN or Infinity, no number beyond a double or of more digits than one could mean
4. no control character in a name; bounded in depth and in the count of objects and lists
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None

DEEPEST: Final = 64
_MOST_CONTAINERS: Final = 20_000
_MOST_COMMAS: Final = 200_000
_LONGEST_NUMBER: Final = 64
# A string that does not end takes the rest, so that no text is gone through twice.
_MARKS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Refused(ValueError):  # noqa: N818 -- it never leaves this module
    """What only some readers would take."""


def read_json(data: bytes) -> Json:
    """The value that `data` is. Raises ValueError where it is none, or not for every reader."""
    text = data.decode("utf-8")
    _check_shape(text)
    try:
        value: Json = _DECODER.decode(text)
    except RecursionError:
        raise _Refused from None
    if "\\u" in text:
        # A lone surrogate cannot be written as UTF-8: UnicodeEncodeError is a ValueError.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _check_shape(text: str) -> None:
    """Bound depth and size before anything is built."""
    if text.count(",") > _MOST_COMMAS:
        raise _Refused
    depth = containers = 0
    for mark in _MARKS.finditer(text):
        first = text[mark.start()]
        if first in "[{":
            depth += 1
            containers += 1
            if depth > DEEPEST or containers > _MOST_CONTAINERS:
                raise _Refused
        elif first in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    if len({name.casefold() for name, _ in pairs}) < len(pairs):
        raise _Refused
    if any(_CONTROL.search(name) for name, _ in pairs):
        raise _Refused
    return dict(pairs)


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise _Refused
    return int(text)


def _broken(text: str) -> float:
    number = float(text)
    if len(text) > _LONGEST_NUMBER or not math.isfinite(number):
        raise _Refused
    return number


def _constant(_: str) -> Json:
    raise _Refused


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_broken, parse_constant=_constant
)

"""What a scalar of YAML is: text, a number, true/false or nothing, by the core schema of YAML 1.2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ruamel.yaml.events import ScalarEvent

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUES = frozenset({"true", "True", "TRUE"})
_FALSES = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_BASED = re.compile(r"0o[0-7]{1,18}\Z|0x[0-9a-fA-F]{1,15}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?\Z")


class Unread:
    """Stands where a value could not be read and a problem is recorded already."""


def is_unread(value: object) -> bool:
    """Whether the value's problem is already told, so that nothing more should be said of it."""
    return isinstance(value, Unread)


class WrittenInt(int):
    """A whole number that remembers how it was written, so that a message can show what to put in quotes.

    What reads a value gives a plain number on: other processes are sent those only.
    """

    written = ""


class WrittenFloat(float):
    """Likewise any other number."""

    written = ""


def is_merge(event: Event) -> bool:
    """Whether the event is the key `<<`, unquoted."""
    return isinstance(event, ScalarEvent) and event.value == "<<" and event.style is None


def scalar(event: ScalarEvent) -> object:
    """YAML 1.2's core schema, for plain scalars; anything quoted is text."""
    text = event.value
    if event.style is not None or not event.implicit[0]:
        return text
    if text in _NULLS:
        return None
    if text in _TRUES or text in _FALSES:
        return text in _TRUES
    return _number(text)


def _number(text: str) -> int | float | str:
    number: WrittenInt | WrittenFloat
    if _INTEGER.match(text):
        number = WrittenInt(text)
    elif _BASED.match(text):
        number = WrittenInt(text, 0)
    elif _FLOAT.match(text):
        number = WrittenFloat(text)
    else:
        return text
    number.written = text
    return number

"""Finds the operations of a GraphQL document (GraphQL specification, October 2021, sections 2 and 3 of its grammar).

A real parser of executable documents: what it does not understand to the last token is refused, so that no server sees
an operation that was not seen here. Every operation of a document counts, whichever of them `operationName` picks.

Refused beyond the grammar: type system definitions, line ends that only some lexers know, control characters, and more
tokens or a deeper nesting than a client writes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from egress.policy.request import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: Final = ("query", "mutation", "subscription")

_MOST_TOKENS: Final = 10_000
_DEEPEST: Final = 64

# A comment that ends at U+2028, or at a lone CR, for one lexer goes on for another.
_DOUBTFUL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]|\r(?!\n)")
_IGNORED: Final = r"(?:[ \t\r\n,]++|\#[^\r\n]*+)*+"
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![0-9A-Za-z_.])"
_ESCAPE: Final = r'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,6}\})'
_BLOCK: Final = r'"""(?:\\"""|(?!""").)*+"""'
_STRING: Final = r'"(?!"")(?:[^"\\\r\n]|' + _ESCAPE + r')*+"'
_TOKEN: Final = re.compile(
    _IGNORED
    + r"(?:(?P<name>[_A-Za-z][_0-9A-Za-z]*+)|(?P<mark>\.\.\.|[!$&()\[\]{}:=|@])"
    + rf'|(?P<number>{_NUMBER})|(?P<text>{_BLOCK}|""(?!")|{_STRING})|(?P<end>\Z))',
    re.DOTALL,
)

_NAME, _MARK, _NUMBER_OR_TEXT, _END = range(4)
_KIND_OF: Final = {"name": _NAME, "mark": _MARK, "number": _NUMBER_OR_TEXT, "text": _NUMBER_OR_TEXT, "end": _END}


class _Refused(ValueError):  # noqa: N818 -- it never leaves this module
    """No document, or none that every server reads alike."""


def operations_of(text: str, *, share: int = 1) -> tuple[Operation, ...] | None:
    """The operations of a document, in order; None if it is none that can be read, or has no operation.

    `share`: of how many documents this is one, which together may have as many tokens as one alone.
    """
    if _DOUBTFUL.search(text):
        return None
    try:
        found = _Document(_tokens(text, _MOST_TOKENS // share)).read()
    except _Refused:
        return None
    return found or None


def _tokens(text: str, most: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None or len(found) > most:
            raise _Refused
        group = match.lastgroup or "end"
        found.append((_KIND_OF[group], match[group]))
        if group == "end":
            return found
        position = match.end()


class _Document:
    """One document while it is read, token by token; each method reads what it is named for."""

    __slots__ = ("_at", "_depth", "_tokens")

    def __init__(self, tokens: list[tuple[int, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def read(self) -> tuple[Operation, ...]:
        found: list[Operation] = []
        while self._tokens[self._at][0] != _END:
            operation = self._definition()
            if operation is not None:
                found.append(operation)
        return tuple(found)

    def _definition(self) -> Operation | None:
        if self._is("{"):
            self._selections()
            return Operation(KINDS[0])
        keyword = self._name()
        if keyword == "fragment":
            if self._name() == "on":
                raise _Refused
            self._type_condition()
            self._directives()
            self._selections()
            return None
        if keyword not in KINDS:
            raise _Refused
        name = self._name() if self._tokens[self._at][0] == _NAME else None
        if self._take("("):
            self._some(self._variable, ")")
        self._directives()
        self._selections()
        return Operation(keyword, name)

    def _variable(self) -> None:
        self._mark("$")
        self._name()
        self._mark(":")
        self._type()
        if self._take("="):
            self._value()
        self._directives()

    def _type(self) -> None:
        if self._take("["):
            self._nested(self._type)
            self._mark("]")
        else:
            self._name()
        self._take("!")

    def _type_condition(self) -> None:
        if self._name() != "on":
            raise _Refused
        self._name()

    def _directives(self) -> None:
        while self._take("@"):
            self._name()
            self._arguments()

    def _arguments(self) -> None:
        if self._take("("):
            self._some(self._field_of_value, ")")

    def _field_of_value(self) -> None:
        self._name()
        self._mark(":")
        self._value()

    def _value(self) -> None:
        if self._take("["):
            while not self._take("]"):
                self._nested(self._value)
        elif self._take("{"):
            while not self._take("}"):
                self._nested(self._field_of_value)
        elif self._take("$"):
            self._name()
        elif self._tokens[self._at][0] in (_NAME, _NUMBER_OR_TEXT):
            self._at += 1
        else:
            raise _Refused

    def _selections(self) -> None:
        self._mark("{")
        self._some(self._selection, "}")

    def _selection(self) -> None:
        if self._take("..."):
            self._spread()
            return
        self._name()
        if self._take(":"):
            self._name()
        self._arguments()
        self._directives()
        if self._is("{"):
            self._selections()

    def _spread(self) -> None:
        """What follows `...`: the name of a fragment, or an inline one."""
        kind, text = self._tokens[self._at]
        if kind == _NAME and text != "on":
            self._at += 1
            self._directives()
            return
        if kind == _NAME:
            self._type_condition()
        self._directives()
        self._selections()

    def _some(self, read: Callable[[], None], end: str) -> None:
        """One or more, then `end`."""
        self._nested(read)
        while not self._take(end):
            self._nested(read)

    def _nested(self, read: Callable[[], None]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Refused
        read()
        self._depth -= 1

    def _name(self) -> str:
        kind, text = self._tokens[self._at]
        if kind != _NAME:
            raise _Refused
        self._at += 1
        return text

    def _is(self, mark: str) -> bool:
        return self._tokens[self._at] == (_MARK, mark)

    def _take(self, mark: str) -> bool:
        if self._tokens[self._at] != (_MARK, mark):
            return False
        self._at += 1
        return True

    def _mark(self, mark: str) -> None:
        if not self._take(mark):
            raise _Refused

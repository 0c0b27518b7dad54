"""Conditions on named values: a request's query parameters and headers, compared with what a rule names.

A condition is a name, and perhaps a pattern for its value (`*` stands for any text). What a server reads may differ
from what we read, so doubt counts against the request:

1. an allow holds only where the name stands once, spelled as the rule spells it (headers: in any case), and its value
   can be read one way only; and, of headers, where it goes up: what `Connection` names ends at the proxy
2. a deny or ask holds for every spelling that some server takes for the name, for any of several values, and for a
   query that cannot be read
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

type Pair = tuple[str, str]
type Named = tuple[tuple[str, str | None], ...]

# Where one server's `admin` is another's `admin[]`, ` admin` or `admin.x`.
_TAIL = re.compile(r"[\[.\s].*", re.DOTALL)
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNREADABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SEPARATOR: Final = re.compile(r"[^0-9a-z]")
_NOMINATING: Final = frozenset({"connection", "proxy-connection"})


class Values:
    """The conditions of one rule on values of one kind, ready to be asked."""

    __slots__ = ("_allows", "_headers", "_loose", "_wanted")

    def __init__(self, named: Named, *, allows: bool, headers: bool) -> None:
        self._allows = allows
        self._headers = headers
        self._loose = loose_header if headers else _loose_parameter
        # A header's name is the same in any case (RFC 9110, section 5.1), a parameter's is not.
        self._wanted = tuple(
            (name.lower() if headers else name, self._loose(name), None if value is None else _compiled(value))
            for name, value in named
        )

    def hold(self, pairs: Sequence[Pair] | None) -> bool:
        """Whether all of them hold. `pairs` None: the values cannot be read one way only, or are not known."""
        if pairs is None:
            return not self._allows
        met = self._met_by_allow if self._allows else self._met_by_refusal
        return all(met(pairs, *wanted) for wanted in self._wanted)

    def _met_by_allow(self, pairs: Sequence[Pair], name: str, loose: str, pattern: re.Pattern[str] | None) -> bool:
        found = [(key, value) for key, value in pairs if self._loose(key) == loose]
        if len(found) != 1:
            return False
        key, value = found[0]
        # Else a sandbox shows us a header that the server never gets.
        if self._headers and key in nominated(pairs):
            return False
        return key == name and (pattern is None or pattern.fullmatch(value) is not None)

    def _met_by_refusal(self, pairs: Sequence[Pair], name: str, loose: str, pattern: re.Pattern[str] | None) -> bool:
        del name
        found = [value for key, value in pairs if self._loose(key) == loose]
        if pattern is None or len(found) > 1:
            return bool(found)
        # A value that is encoded twice is read once here, and perhaps twice there.
        return any(pattern.fullmatch(value) or "%" in value for value in found)


def query_pairs(raw: str | None) -> tuple[Pair, ...] | None:
    """A raw query as decoded names and values, in order; None if servers may read it in more than one way."""
    if not raw:
        return ()
    if ";" in raw or _ESCAPE.search(raw):
        return None
    pairs: list[Pair] = []
    for part in raw.split("&"):
        name, _, value = part.replace("+", " ").partition("=")
        try:
            decoded = unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            return None
        if _UNREADABLE.search(decoded[0] + decoded[1]):
            return None
        if part:
            pairs.append(decoded)
    return tuple(pairs)


def header_pairs(headers: Sequence[Pair]) -> tuple[Pair, ...]:
    """Headers as lower-case names and values, in order."""
    return tuple((name.lower(), value.strip(" \t")) for name, value in headers)


def loose_header(name: str) -> str:
    """One name for all spellings of a header: CGI and its heirs read `X_Key`, and some of them `X.Key`, as `X-Key`."""
    return _SEPARATOR.sub("-", name.lower())


def nominated(pairs: Sequence[Pair]) -> frozenset[str]:
    """The headers that `Connection` keeps from the next hop (RFC 9110, section 7.6.1), of lower-case names."""
    values = [value for name, value in pairs if name in _NOMINATING]
    return frozenset(member.strip(" \t").lower() for value in values for member in value.split(","))


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _loose_parameter(name: str) -> str:
    return _TAIL.sub("", name.strip()).casefold()

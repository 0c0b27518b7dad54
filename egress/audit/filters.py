"""The filter language of the audit: words with conditions, read into terms that say where they stand.

    host:*.github.com verdict:deny -method:GET since:10m rule:"our repos" status:>=500 bytes:>1mb text

1. terms are separated by spaces, and all must hold; `-` before a term turns it around
2. `field:value` asks one column; `a,b` either of two values; a word without a field is looked for in the texts of a row
3. quotes keep spaces, commas and a leading `-` or `<` in a value
4. whatever cannot be read is a `FilterError` that says from where to where

How terms become SQL: `filter_sql`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([a-zµ]*)")
_OPERATORS = (">=", "<=", ">", "<")
LONGEST: Final = 2_000
MOST_TERMS: Final = 50

# What the values of a field are; `pattern`: text in which `*` stands for any characters.
KINDS: Final = {
    **dict.fromkeys(("host", "path", "rule", "file", "secret", "sandbox", "client", "error", "rewritten"), "pattern"),
    **dict.fromkeys(
        ("method", "reason", "scope", "protocol", "lane", "address", "sni", "policy", "id", "road"), "pattern"
    ),
    "verdict": "verdict",
    "state": "state",
    "since": "moment",
    "until": "moment",
    "label": "label",
    "status": "number",
    "port": "number",
    "bytes": "size",
    "up": "size",
    "down": "size",
    "took": "time",
}
_WORDS = {"verdict": ("allow", "deny", "ask"), "state": ("open", "done")}
_SCALES = {
    "number": {"": 1},
    "size": {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000},
    # In microseconds, as the audit has it.
    "time": {"": 1_000_000, "us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000},
}
_EXAMPLES = {"number": "500", "size": "10mb", "time": "250ms"}


class FilterError(ValueError):
    """A filter that cannot be read; what is wrong stands from `start` up to `end` of its text."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `field` None: text anywhere in the row. `values`: any of them; numbers in the column's unit."""

    field: str | None
    values: tuple[str | int, ...]
    operator: str = "="
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that a row must meet, all of them. Made by `parse_filter`; the empty one asks nothing."""

    terms: tuple[Term, ...] = ()

    def __and__(self, other: Filter) -> Filter:
        """Both."""
        return Filter(self.terms + other.terms)

    @property
    def since_us(self) -> int | None:
        """The earliest moment that can meet it, in microseconds in UTC; None: any."""
        moments = [
            value
            for term in self.terms
            if term.field == "since" and not term.negated
            for value in term.values
            if isinstance(value, int)
        ]
        return max(moments, default=None)


def parse_filter(text: str, now_us: int) -> Filter:
    """Read a filter. `now_us`: what durations go back from. Raises FilterError."""
    if len(text) > LONGEST:
        raise FilterError(f"a filter has {LONGEST:,} characters at most", LONGEST, len(text))
    terms = tuple(_term(word, now_us) for word in _words(text))
    if len(terms) > MOST_TERMS:
        raise FilterError(f"a filter has {MOST_TERMS} terms at most", 0, len(text))
    return Filter(terms)


def one(field: str, value: str, now_us: int = 0) -> Filter:
    """The filter `field:value`, whatever characters the value has: for command-line flags."""
    word = _Word("", 0, 0, negated=False, field=field, parts=((value, False),))
    return Filter((_term(word, now_us),))


def parse_since(text: str, now_us: int) -> int:
    """A duration back from now (`90s`, `10m`, `2h`, `1d`, `1w`) or an RFC 3339 time, as microseconds in UTC.

    A time without an offset is local time. Raises ValueError with a sentence.
    """
    if duration := _DURATION.fullmatch(text):
        return now_us - int(duration[1]) * _UNITS[duration[2]] * 1_000_000
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000 + moment.microsecond
    except (ValueError, OverflowError):
        raise ValueError(
            f"`{text}` is no duration or time, write `10m`, `2h`, `1d` or `2026-11-20T10:00:00Z`"
        ) from None


@dataclass(frozen=True, slots=True)
class _Word:
    """A term as it stands: `parts` are its values, each with whether it was quoted."""

    text: str
    start: int
    end: int
    negated: bool
    field: str | None
    parts: tuple[tuple[str, bool], ...]

    def wrong(self, message: str) -> FilterError:
        return FilterError(message, self.start, self.end)


_FIELD = re.compile(r"([A-Za-z][A-Za-z_]*):")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,"]*)')
_ESCAPE = re.compile(r"\\(.)")


def _words(text: str) -> Iterator[_Word]:
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        word = _word(text, place)
        yield word
        place = word.end


def _word(text: str, start: int) -> _Word:
    place = start + (text[start] == "-" and not text[start + 1 : start + 2].isspace() and start + 1 < len(text))
    negated = place > start
    named = _FIELD.match(text, place)
    field = named[1].lower() if named and named[1].lower() in KINDS else None
    if named and field is None and not text.startswith("//", named.end()):
        known = ", ".join(sorted(KINDS))
        raise FilterError(f"`{named[1]}` is no field; they are {known}", named.start(), named.end())
    if named and field is not None:
        place = named.end()
    parts: list[tuple[str, bool]] = []
    while True:
        value = _VALUE.match(text, place)
        if value is None or (value.end() < len(text) and text[value.end()] == '"'):
            raise FilterError('a quote `"` has no other end', place, len(text))
        quoted = value[1] is not None
        parts.append((_ESCAPE.sub(r"\1", value[1]) if quoted else value[2], quoted))
        place = value.end()
        if place >= len(text) or text[place].isspace():
            break
        if text[place] != ",":
            raise FilterError("a space is missing after the quote", place, place + 1)
        if field is None:
            # A comma in a word to look for is just that.
            rest = re.compile(r"\S*").match(text, place)
            whole = text[value.start() : rest.end()] if rest else text[value.start() :]
            parts[-1] = (whole, False)
            place = value.start() + len(whole)
            break
        place += 1
    return _Word(text[start:place], start, place, negated, field, tuple(parts))


def _term(word: _Word, now_us: int) -> Term:
    if any(not value and not quoted for value, quoted in word.parts):
        after = f"{word.field}:" if word.field else "-"
        raise word.wrong(f"something is missing after `{after}`")
    if word.field is None:
        return Term(None, tuple(value for value, _ in word.parts), negated=word.negated)
    kind = KINDS[word.field]
    if kind in _SCALES:
        return _measure(word, kind)
    values: list[str | int] = []
    for value, _ in word.parts:
        if kind in _WORDS and value not in _WORDS[kind]:
            raise word.wrong(f"`{word.field}` is {_or(_WORDS[kind])}, not `{value}`")
        if kind == "label" and not value.partition("=")[0]:
            raise word.wrong("write `label:key` or `label:key=value`")
        values.append(_moment(word, value, now_us) if kind == "moment" else value)
    return Term(word.field, tuple(values), negated=word.negated)


def _measure(word: _Word, kind: str) -> Term:
    """A number with its unit, and whether it is a bound."""
    operator, values = "=", []
    for value, _ in word.parts:
        operator = next((sign for sign in _OPERATORS if value.startswith(sign)), "=")
        if operator != "=" and len(word.parts) > 1:
            raise word.wrong(f"`{operator}` takes one value")
        number = _NUMBER.fullmatch(value.removeprefix(operator if operator != "=" else "").lower())
        if number is None or number[2] not in _SCALES[kind]:
            raise word.wrong(f"`{value}` is no {kind}, write `{word.field}:>{_EXAMPLES[kind]}`")
        values.append(int(float(number[1]) * _SCALES[kind][number[2]]))
    return Term(word.field, tuple(values), operator, negated=word.negated)


def _moment(word: _Word, value: str, now_us: int) -> int:
    try:
        return parse_since(value, now_us)
    except ValueError as error:
        raise word.wrong(str(error)) from error


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))

"""A filter's terms as SQL over the view `requests`: fixed texts with parameters, never a value in the text.

A host pattern is a name (`api.github.com`), `.example.com` (the name and everything below it, as in policies), or has
stars that stand for any characters: `*.example.com` is everything below it, `*hub*` whatever contains `hub`. Other
patterns are whole texts, upper and lower case alike, with stars.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit.filters import Filter, Term

type Condition = tuple[str, list[str | int]]

_COLUMNS: Final = {"policy": "policy_hash", "took": "duration_us"}
_SUMS: Final = {
    "bytes": "(coalesce(bytes_up, 0) + coalesce(bytes_down, 0))",
    "up": "coalesce(bytes_up, 0)",
    "down": "coalesce(bytes_down, 0)",
}
# Where a word without a field is looked for.
_TEXTS: Final = ("host", "path", "rule", "reason", "detail", "error", "id", "sandbox", "client")


def where(wanted: Filter) -> Condition:
    """The condition, and its parameters; `1` if nothing is asked."""
    conditions, parameters = [], []
    for term in wanted.terms:
        condition, values = _of_term(term)
        conditions.append(f"NOT coalesce({condition}, 0)" if term.negated else condition)
        parameters += values
    return " AND ".join(conditions) or "1", parameters


def error_condition(term: Term) -> Condition:
    """Of a term that looks at errors too: what an outcome's `error` must meet."""
    if term.field is None:
        return _any([("lower(error) GLOB ?", [f"*{_glob(str(value))}*"]) for value in term.values])
    return _any([("(error GLOB ? OR error GLOB ?)", [_glob(str(v)), f"{_glob(str(v))}:*"]) for v in term.values])


def _of_term(term: Term) -> Condition:
    if term.field is None:
        return _any([_anywhere(str(value)) for value in term.values])
    make = _SPECIAL.get(term.field, _pattern)
    return _any([make(term, value) for value in term.values])


def _any(conditions: list[Condition]) -> Condition:
    return (
        "(" + " OR ".join(condition for condition, _ in conditions) + ")",
        [value for _, values in conditions for value in values],
    )


def _pattern(term: Term, value: str | int) -> Condition:
    return _like(_COLUMNS.get(str(term.field), str(term.field)), str(value))


def _like(column: str, pattern: str) -> Condition:
    if "*" in pattern:
        return f"lower({column}) GLOB ?", [_glob(pattern)]
    return f"lower({column}) = ?", [pattern.lower()]


def _exactly(term: Term, value: str | int) -> Condition:
    return f"{term.field} = ?", [value]


def _verdict(_: Term, value: str | int) -> Condition:
    # As the index of what was refused has it.
    return ("verdict = ?" if value == "allow" else "(verdict = ? AND verdict <> 'allow')"), [value]


def _host(_: Term, value: str | int) -> Condition:
    pattern = str(value).lower()
    if pattern.startswith("."):
        return "(lower(host) GLOB ? OR lower(host) = ?)", [f"*{_glob(pattern)}", pattern[1:]]
    return _like("host", pattern)


def _reason(_: Term, value: str | int) -> Condition:
    """That of the decision, or the one with which the outcome's `error` begins."""
    pattern = _glob(str(value))
    return "(reason GLOB ? OR error GLOB ? OR error GLOB ?)", [pattern, pattern, f"{pattern}:*"]


def _measure(term: Term, value: str | int) -> Condition:
    column = _SUMS.get(str(term.field), _COLUMNS.get(str(term.field), str(term.field)))
    return f"{column} {term.operator} ?", [value]


def _since(_: Term, value: str | int) -> Condition:
    return "time_us >= ?", [value]


def _until(_: Term, value: str | int) -> Condition:
    return "time_us < ?", [value]


def _secret(_: Term, value: str | int) -> Condition:
    return f"EXISTS (SELECT 1 FROM {_each('secrets')} WHERE value GLOB ?)", [_escaped(str(value))]  # noqa: S608 -- constants


def _label(_: Term, value: str | int) -> Condition:
    key, equals, wanted = str(value).partition("=")
    test = f"EXISTS (SELECT 1 FROM {_each('labels')} WHERE key = ?"  # noqa: S608 -- constants
    return (f"{test} AND value GLOB ?)", [key, _escaped(wanted)]) if equals else (f"{test})", [key])


def _each(column: str) -> str:
    # Another program's text need be no JSON, at which json_each would end the question.
    return f"json_each(CASE WHEN json_valid({column}) THEN {column} ELSE '[]' END)"


def _anywhere(value: str) -> Condition:
    pattern = f"*{_glob(value)}*"
    return _any([(f"lower({column}) GLOB ?", [pattern]) for column in _TEXTS])


def _glob(pattern: str) -> str:
    return _escaped(pattern.lower())


def _escaped(pattern: str) -> str:
    # In GLOB `[` and `?` are special as well; in a pattern of ours only the star is.
    return re.sub(r"[\[?]", lambda found: f"[{found[0]}]", pattern)


_SPECIAL: Final[dict[str, Callable[[Term, str | int], Condition]]] = {
    "host": _host,
    "reason": _reason,
    "verdict": _verdict,
    "state": _exactly,
    "since": _since,
    "until": _until,
    "secret": _secret,
    "label": _label,
    **dict.fromkeys(("status", "port", "bytes", "up", "down", "took"), _measure),
}

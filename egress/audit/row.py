"""Events as rows: which columns each table has, in which order, and how an event becomes a tuple that always fits.

Building a row is total: no value of an event can make the insert fail, so one hostile request cannot stop the audit.
"""

from __future__ import annotations

import json
import marshal
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from egress.audit.text import storable

if TYPE_CHECKING:
    from egress.audit.event import DecisionEvent, OutcomeEvent

type Value = str | int | None
type Row = tuple[Value, ...]

DECISIONS = "decisions"
OUTCOMES = "outcomes"
EVENTS = "events"

COLUMNS: dict[str, tuple[str, ...]] = {
    DECISIONS: (
        *("id", "time_us", "sandbox", "client", "verdict", "reason", "scope", "rule", "file", "line", "policy_hash"),
        *(
            "method",
            "scheme",
            "host",
            "port",
            "path",
            "query",
            "sni",
            "protocol",
            "lane",
            "address",
            "secrets",
            "detail",
            "labels",
            "rewritten",
            "count",
            "trace",
            "road",
        ),
    ),
    OUTCOMES: (
        *("id", "time_us", "status", "bytes_up", "bytes_down", "duration_us", "first_byte_us", "address", "error"),
    ),
    EVENTS: ("id", "time_us", "kind", "detail"),
}
INTEGERS = frozenset(
    {"time_us", "line", "port", "status", "bytes_up", "bytes_down", "duration_us", "first_byte_us", "count"},
)
REQUIRED = frozenset({"id", "time_us", "sandbox", "client", "verdict", "reason", "secrets", "kind"})

# The format without references: the same values are the same bytes.
_MARSHAL: Final = 2
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
_WORD = 128
_NAME = 512
_LONG = 2048
_LAST = 2**63 - 1
_FIRST = -(2**63)
# What many decisions have in common, in the order of the columns.
_COMMON = tuple(
    column
    for column in COLUMNS[DECISIONS]
    if column not in {"id", "time_us", "client", "path", "query", "address", "rewritten", "count"}
)
_LONGER = {
    "sandbox": _NAME,
    "rule": _NAME,
    "file": _LONG,
    "host": _NAME,
    "sni": _NAME,
    "detail": _NAME,
    "labels": _LONG,
    "trace": _LONG,
}
_COMMON_LIMITS = tuple(_LONGER.get(column, _WORD) for column in _COMMON)
_common_values = attrgetter(*_COMMON)


def decision_row(event: DecisionEvent) -> Row:
    """The values of `event` in the order of `COLUMNS["decisions"]`."""
    sandbox, *told, sni, protocol, lane, secrets, detail, labels, trace, road = _common(event)
    return (
        _text(event.id, _WORD),
        _integer(event.time_us),
        sandbox,
        _text(event.client, _WORD),
        *told,
        _text(event.path, _LONG),
        _text(event.query, _LONG),
        sni,
        protocol,
        lane,
        _text(event.address, _WORD),
        secrets,
        detail,
        labels,
        _text(event.rewritten, _LONG),
        _integer(event.count),
        trace,
        road,
    )


def outcome_row(event: OutcomeEvent) -> Row:
    """The values of `event` in the order of `COLUMNS["outcomes"]`."""
    return (
        _text(event.id, _WORD),
        _integer(event.time_us),
        _integer(event.status),
        _integer(event.bytes_up),
        _integer(event.bytes_down),
        _integer(event.duration_us),
        _integer(event.first_byte_us),
        _text(event.address, _WORD),
        _text(event.error, _NAME),
    )


def note_row(note_id: str, time_us: int, kind: str, detail: str) -> Row:
    """A row of `events`: what happened to the proxy or to the audit itself."""
    # As plain text: an enum has another canonical text in the chain than what the database gives back.
    return (note_id, _integer(time_us), storable(str(kind), _WORD), storable(detail, _LONG))


def packed(table: str, row: Row) -> bytes:
    """A row as it goes from process to process, and as the chain hashes it: a row's only bytes, and no other row's."""
    return marshal.dumps((table, row), _MARSHAL)


def unpacked(data: bytes) -> tuple[str, Any]:
    """The table and the row of `packed`; only for bytes from a process of our own."""
    table, row = marshal.loads(data)  # noqa: S302 - see above
    return table, row


def _common(event: DecisionEvent) -> Row:
    """What the event has in common with many others: made once for all of them."""
    values = _common_values(event)
    # Of all these, the method alone may be as long as the client likes.
    if event.method is not None and len(event.method) > _WORD:
        return _common_row(values)
    try:
        return _remembered(values)
    except TypeError:  # a value that cannot be looked up can still be stored
        return _common_row(values)


def _common_row(values: tuple[Value | tuple[str, ...], ...]) -> Row:
    return tuple([_fitted(value, limit) for value, limit in zip(values, _COMMON_LIMITS, strict=True)])


_remembered = lru_cache(maxsize=1_024)(_common_row)


def _text(value: str | None, limit: int) -> str | None:
    # As `storable` does it, without another call for what may stay as it is.
    if value is None or (type(value) is str and len(value) <= limit and value.isprintable()):
        return value
    return storable(value, limit)


def _fitted(value: Value | tuple[str, ...], limit: int) -> Value:
    if isinstance(value, tuple | list):
        return _ENCODE([storable(name, limit) for name in value])
    return _integer(value) if value is None or isinstance(value, int) else storable(value, limit)


def _integer(value: int | None) -> int | None:
    """`value` as SQLite holds it; beyond 64 bits, the nearest that fits. An enum or a bool packs otherwise, or not."""
    if value is None or (type(value) is int and _FIRST <= value <= _LAST):
        return value
    return max(_FIRST, min(int(value), _LAST))

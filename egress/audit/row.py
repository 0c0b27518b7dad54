"""Events as rows: which columns each table has, in which order, and how an event becomes a tuple that always fits.

Building a row is total: no value of an event can make the insert fail, so one hostile request cannot stop the audit.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
        ),
    ),
    OUTCOMES: (
        *("id", "time_us", "status", "bytes_up", "bytes_down", "duration_us", "first_byte_us", "address", "error"),
    ),
    EVENTS: ("id", "time_us", "kind", "detail"),
}
INTEGERS = frozenset(
    {"time_us", "line", "port", "status", "bytes_up", "bytes_down", "duration_us", "first_byte_us"},
)
REQUIRED = frozenset({"id", "time_us", "sandbox", "client", "verdict", "reason", "secrets", "kind"})

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
_WORD = 128
_NAME = 512
_LONG = 2048
_LAST = 2**63 - 1
_FIRST = -(2**63)


def decision_row(event: DecisionEvent) -> Row:
    """The values of `event` in the order of `COLUMNS["decisions"]`."""
    return (
        storable(event.id, _WORD),
        _integer(event.time_us),
        storable(event.sandbox, _NAME),
        storable(event.client, _WORD),
        storable(event.verdict, _WORD),
        storable(event.reason, _WORD),
        _text(event.scope, _WORD),
        _text(event.rule, _NAME),
        _text(event.file, _LONG),
        _integer(event.line),
        _text(event.policy_hash, _WORD),
        _text(event.method, _WORD),
        _text(event.scheme, _WORD),
        _text(event.host, _NAME),
        _integer(event.port),
        _text(event.path, _LONG),
        _text(event.query, _LONG),
        _text(event.sni, _NAME),
        _text(event.protocol, _WORD),
        _text(event.lane, _WORD),
        _text(event.address, _WORD),
        _ENCODE([storable(name, _WORD) for name in event.secrets]) if event.secrets else "[]",
        _text(event.detail, _NAME),
    )


def outcome_row(event: OutcomeEvent) -> Row:
    """The values of `event` in the order of `COLUMNS["outcomes"]`."""
    return (
        storable(event.id, _WORD),
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
    return (note_id, _integer(time_us), storable(kind, _WORD), storable(detail, _LONG))


def _text(value: str | None, limit: int) -> str | None:
    return None if value is None else storable(value, limit)


def _integer(value: int | None) -> int | None:
    """`value` as SQLite holds it; beyond 64 bits, the nearest that fits."""
    return value if value is None or _FIRST <= value <= _LAST else (_LAST if value > 0 else _FIRST)

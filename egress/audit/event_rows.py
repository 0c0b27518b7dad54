"""Reading `events`: what happened to the proxy and to the record, the newest, and what comes after them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class EventRow:
    """One row of `events`. `kind` is a word of `notes.Kind`, or of a newer Egress; `detail` a sentence."""

    seq: int
    id: str
    time_us: int
    kind: str
    detail: str


_COLUMNS = ", ".join(field.name for field in fields(EventRow))
_NEWEST = f"SELECT {_COLUMNS} FROM events WHERE time_us >= ? ORDER BY seq DESC LIMIT ?"  # noqa: S608 -- constants
_AFTER = f"SELECT {_COLUMNS} FROM events WHERE seq > ? AND time_us >= ? ORDER BY seq"  # noqa: S608 -- constants


def newest(connection: sqlite3.Connection, since_us: int, limit: int) -> list[EventRow]:
    """The newest events of that time or later, oldest first. Raises sqlite3.Error."""
    found = connection.execute(_NEWEST, [since_us, max(0, limit)]).fetchall()
    return [EventRow(*values) for values in reversed(found)]


def after(connection: sqlite3.Connection, seq: int, since_us: int) -> list[EventRow]:
    """The events that were recorded after that one. Raises sqlite3.Error."""
    return [EventRow(*values) for values in connection.execute(_AFTER, [seq, since_us])]


def last(connection: sqlite3.Connection) -> int:
    """The `seq` of the newest event; 0 if there is none. Raises sqlite3.Error."""
    (seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
    return int(seq)

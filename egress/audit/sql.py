"""A person's own SQL over the record: read-only, one statement, bounded in the time that it runs.

What a statement may do is decided by SQLite's authorizer: reading, and functions; no file, no pragma that changes
anything, no other database.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from egress.audit.text import printable
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# SQLite asks after so many steps of its machine whether to go on.
_STEPS: Final = 10_000
_READ: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# Pragmas that tell of the schema, and take no value that changes anything.
_PRAGMAS: Final = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "user_version"})


class Allowance:
    """`seconds` that a statement may run: they pass within `with`, not while somebody reads what it gave."""

    __slots__ = ("_clock", "_state", "seconds")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        # What was left when it last began or stopped, and since when it runs. One value, as another thread looks at it.
        self._state: tuple[float, float | None] = (seconds, None)

    def left(self) -> float:
        """Seconds; below 0 where it took more."""
        # The clock first: were it looked at after the state, what a reader took in between could be counted.
        now = self._clock()
        left, since = self._state
        return left if since is None else left - max(0.0, now - since)

    def __enter__(self) -> None:
        self._state = (self._state[0], self._clock())

    def __exit__(self, *_: object) -> None:
        self._state = (self.left(), None)


def ask(connection: sqlite3.Connection, sql: str, allowance: Allowance) -> Iterator[Sequence[Any]]:
    """The names of the columns, then the rows as they come. Raises AuditError with what SQLite says."""
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: int(allowance.left() < 0), _STEPS)
    try:
        with allowance:
            cursor = connection.execute(sql)
        if cursor.description is None:
            raise AuditError("this statement gives no rows", hint="write a SELECT")
        yield [column[0] for column in cursor.description]
        yield from _timed(cursor, allowance)
    except sqlite3.Error as error:
        raise _explained(error, allowance.seconds) from error
    finally:
        connection.set_authorizer(None)
        connection.set_progress_handler(None, 0)


def _timed(cursor: sqlite3.Cursor, allowance: Allowance) -> Iterator[Sequence[Any]]:
    while True:
        with allowance:
            row = cursor.fetchone()
        if row is None:
            return
        yield row


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _inside: str | None) -> int:
    if action in _READ and not (action == sqlite3.SQLITE_FUNCTION and second in {"load_extension", "readfile"}):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS and (second is None or first != "user_version"):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _explained(error: sqlite3.Error, seconds: float) -> AuditError:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_INTERRUPT":
        return AuditError(f"the statement took over {seconds:g} seconds", hint="ask for less, or give it more time")
    if name == "SQLITE_AUTH":
        return AuditError("only reading is allowed here", hint="write a SELECT")
    # The names in it may be those of a file from elsewhere.
    return AuditError(f"SQLite says: {printable(str(error))}", hint="the view `requests` has a row for each request")

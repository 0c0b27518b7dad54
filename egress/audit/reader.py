"""Reading the audit: the newest rows, and rows as they come, beside a running proxy and without writing anything.

Rows are found by primary key from the newest end, so that the first screen costs the same at any size; only a filter
that almost nothing meets reads further back. Each question is a short transaction of its own, so that the proxy's
checkpoints never wait for a reader.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from egress.audit import event_rows
from egress.audit.asked import ASKED, AskedRow
from egress.audit.database import beside, explain, identity, uri
from egress.audit.filter_sql import where
from egress.audit.filters import Filter
from egress.audit.schema import READABLE, version_of
from egress.audit.search import newest_by_index
from egress.errors import AuditError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from egress.audit.event_rows import EventRow
    from egress.audit.sql import Allowance
    from egress.audit.summary import Summary
    from egress.audit.verify import Expected, Report

_LOCK_SECONDS = 5.0
# What one look at the indexes tells at most.
_PROBLEMS_AT_MOST = 20
# How often retention may come in between while all is verified.
_VERIFIED_AGAIN = 5
# How far the order of rows and the order of their times may differ: threads, and clocks that are set back.
_DISORDER_US = 300 * 1_000_000


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the view `requests`: a decision and, unless `state` is `open`, its outcome. Units as in the events.

    All text may hold what a hostile client sent; `printable` makes it fit for a terminal.
    """

    seq: int
    id: str
    time_us: int
    state: str
    sandbox: str
    client: str
    verdict: str
    reason: str
    scope: str | None
    rule: str | None
    file: str | None
    line: int | None
    policy_hash: str | None
    method: str | None
    scheme: str | None
    host: str | None
    port: int | None
    path: str | None
    query: str | None
    sni: str | None
    protocol: str | None
    lane: str | None
    address: str | None
    status: int | None
    bytes_up: int | None
    bytes_down: int | None
    duration_us: int | None
    first_byte_us: int | None
    secrets: tuple[str, ...]
    labels: str | None
    detail: str | None
    error: str | None
    rewritten: str | None
    count: int = 1
    trace: str | None = None
    road: str | None = None


_COLUMNS = ", ".join(field.name for field in fields(AuditRow))
_SECRETS = [field.name for field in fields(AuditRow)].index("secrets")
_SELECT = f"SELECT {_COLUMNS} FROM requests"  # noqa: S608 -- constants
_NEWEST = f"SELECT {_COLUMNS} FROM requests WHERE seq >= ? AND {{where}} ORDER BY seq DESC LIMIT ?"  # noqa: S608 -- constants
_NAMED = f"SELECT {_COLUMNS} FROM requests WHERE id = ?"  # noqa: S608 -- constants
_ARRIVED = f"SELECT {_COLUMNS} FROM requests WHERE seq > ? AND seq <= ? AND {{where}} ORDER BY seq"  # noqa: S608 -- constants
_BETWEEN = f"{_ARRIVED} LIMIT ?"
_ENDED = (
    f"SELECT {_COLUMNS} FROM requests WHERE seq <= ? AND {{where}} "  # noqa: S608 -- constants
    "AND id IN (SELECT id FROM outcomes WHERE seq > ? AND seq <= ?) ORDER BY seq"
)


class AuditReader:
    """Reads the database at `path`. Use as a context manager, or `close` it; one thread only. Raises AuditError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._identity = identity(self.path)
        self._immutable = False
        self._seen = (0, 0)
        self._seen_event = 0
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself, for who reads the record whole."""
        return self._connection

    @property
    def rows_at_most(self) -> int:
        """How many decisions and outcomes there are, or less: of an old record the first were dropped."""
        with self._snapshot() as connection:
            return sum(self._ends(connection))

    def newest(self, wanted: Filter | None = None, *, limit: int = 50) -> list[AuditRow]:
        """The newest `limit` rows that meet the filter, oldest first. `arrived` goes on from here."""
        wanted = wanted or Filter()
        condition, parameters = where(wanted)
        with self._snapshot() as connection:
            self._seen = self._ends(connection)
            first = 0 if wanted.since_us is None else _first_since(connection, wanted.since_us, self._seen[0])
            found = newest_by_index(connection, wanted, _SELECT, first, max(0, limit))
            if found is None:
                asked = [first, *parameters, max(0, limit)]
                found = connection.execute(_NEWEST.format(where=condition), asked).fetchall()
        return [_row(values) for values in reversed(found)]

    def named(self, row_id: str) -> AuditRow | None:
        """The row of one decision; None if there is none."""
        with self._snapshot() as connection:
            found = connection.execute(_NAMED, [row_id]).fetchone()
        return None if found is None else _row(found)

    def arrived(self, wanted: Filter | None = None) -> list[AuditRow]:
        """What is new since the last `newest` or `arrived`: rows that got their outcome, then new rows, in order.

        A row that was shown `open` comes again as `done`. A database that was deleted and made anew is read from its
        start.
        """
        self._reopen_if_replaced()
        condition, parameters = where(wanted or Filter())
        with self._snapshot() as connection:
            seen, self._seen = self._seen, self._ends(connection)
            if self._seen == seen:
                return []
            ended = connection.execute(_ENDED.format(where=condition), [seen[0], *parameters, seen[1], self._seen[1]])
            rows = [_row(values) for values in ended]
            arrived = connection.execute(_ARRIVED.format(where=condition), [seen[0], self._seen[0], *parameters])
            rows += [_row(values) for values in arrived]
        return rows

    def bounds(self, wanted: Filter | None = None) -> tuple[int, int]:
        """The first and the last `seq` between which all rows stand that can meet the filter."""
        since_us = None if wanted is None else wanted.since_us
        with self._snapshot() as connection:
            last = self._ends(connection)[0]
            (first,) = connection.execute("SELECT coalesce(min(seq), 1) FROM decisions").fetchone()
            return (first if since_us is None else max(first, _first_since(connection, since_us, last))), last

    def between(self, after: int, last: int, wanted: Filter, *, limit: int) -> list[AuditRow]:
        """The first `limit` rows beyond `seq` `after`, up to `last`, that meet the filter. For `pages`."""
        condition, parameters = where(wanted)
        with self._snapshot() as connection:
            found = connection.execute(_BETWEEN.format(where=condition), [after, last, *parameters, limit])
            return [_row(values) for values in found]

    def newest_events(self, since_us: int = 0, *, limit: int = 50) -> list[EventRow]:
        """The newest rows of `events` since then, oldest first. `arrived_events` goes on from here."""
        with self._snapshot() as connection:
            self._seen_event = event_rows.last(connection)
            return event_rows.newest(connection, since_us, limit)

    def arrived_events(self, since_us: int = 0) -> list[EventRow]:
        """The rows of `events` that are new since the last `newest_events` or `arrived_events`, in order."""
        self._reopen_if_replaced()
        with self._snapshot() as connection:
            rows = event_rows.after(connection, self._seen_event, since_us)
            self._seen_event = max([self._seen_event, *(row.seq for row in rows)])
        return rows

    def asked(self, since_us: int = 0, *, window: int = 20_000) -> Iterator[AskedRow]:
        """All that was asked for since then, alike decisions together, as far as they stand in the same `window` rows.

        Memory and the length of a transaction are bounded by the window, whatever the size of the record.
        """
        with self._snapshot() as connection:
            end = self._ends(connection)[0] + 1
            first = _first_since(connection, since_us, end - 1) if since_us else 0
        while first < end:
            after = min(first + window, end)
            with self._snapshot() as connection:
                rows = connection.execute(ASKED, [first, after, since_us]).fetchall()
            yield from (AskedRow(*values) for values in rows)
            first = after

    def verify(
        self,
        *,
        key: bytes | None = None,
        expected: Sequence[Expected] = (),
        progress: Callable[[int], object] = lambda _: None,
        processes: int = 1,
    ) -> Report:
        """Whether the record is as it was written: see `egress.audit.verify`. `processes`: how many work at it.

        What retention drops meanwhile looks as if it were deleted: then all is verified again, from its new beginning.
        """
        again = _VERIFIED_AGAIN
        while True:
            dropped = self._dropped()
            report = self._verified(key, expected, progress, processes)
            if report.holds or not again or self._dropped() == dropped:
                return report
            again -= 1

    def _verified(
        self, key: bytes | None, expected: Sequence[Expected], progress: Callable[[int], object], processes: int
    ) -> Report:
        if processes > 1:
            from egress.audit.verify_parts import verify_in_parts  # noqa: PLC0415 -- most readers do not verify

            return verify_in_parts(
                self._connection, self.path, key=key, expected=expected, progress=progress, processes=processes
            )
        from egress.audit.verify import verify  # noqa: PLC0415 -- as above

        return verify(self._connection, self.path, key=key, expected=expected, progress=progress)

    def damaged_indexes(self) -> list[str]:
        """What SQLite finds wrong with the file and its indexes, by which a row could be kept from being found."""
        from egress.audit.text import printable  # noqa: PLC0415 -- as above

        with self._snapshot() as connection:
            found = [str(text) for (text,) in connection.execute(f"PRAGMA integrity_check({_PROBLEMS_AT_MOST})")]
        return [] if found == ["ok"] else [printable(text) for text in found]

    def _dropped(self) -> int:
        """The last batch that retention has let go."""
        with self._snapshot() as connection:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM drops").fetchone()[0])

    def summary(self, wanted: Filter | None = None) -> Summary:
        """The rows that meet the filter in figures."""
        from egress.audit.summary import summarize  # noqa: PLC0415 -- as above

        wanted = wanted or Filter()
        with self._snapshot() as connection:
            last = self._ends(connection)[0]
            first = 0 if wanted.since_us is None else _first_since(connection, wanted.since_us, last)
            return summarize(connection, wanted, first)

    def sql(self, statement: str, allowance: Allowance) -> Iterator[Sequence[Any]]:
        """What a statement of one's own gives: the names of its columns, then its rows."""
        from egress.audit.sql import ask  # noqa: PLC0415 -- as above

        return ask(self._connection, statement, allowance)

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise AuditError(
                f"there is no audit database at {self.path}",
                hint="start `egress run` first, or name the file with --audit or its folder with --state-dir",
            )
        try:
            return self._connect("mode=ro")
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if not name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                raise self._explain(error) from error
        # SQLite cannot make its -shm in a read-only folder. Without a WAL no proxy has the file open and nothing is
        # missing from it, so that it can be read as it lies there.
        if identity(beside(self.path, "-wal")) is not None and beside(self.path, "-wal").stat().st_size:
            raise AuditError(
                f"{self.path} has rows in its -wal file, which cannot be read in a read-only folder",
                hint="copy both files to a folder of yours and read them there",
            )
        self._immutable = True
        try:
            return self._connect("mode=ro&immutable=1")
        except (sqlite3.Error, OSError) as error:
            raise self._explain(error) from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri(self.path, mode), uri=True, isolation_level=None, timeout=_LOCK_SECONDS)
        try:
            version = version_of(connection, self.path)
        except BaseException:
            connection.close()
            raise
        if version < READABLE:
            connection.close()
            raise AuditError(
                f"{self.path} is empty or was written by an older Egress",
                hint="start `egress run` with it once; that brings it up to date",
            )
        return connection

    def _reopen_if_replaced(self) -> None:
        now = identity(self.path)
        if now is None or (now == self._identity and not self._immutable):
            return
        self._connection.close()
        if now != self._identity:
            self._seen, self._seen_event = (0, 0), 0
        self._identity, self._immutable = now, False
        self._connection = self._open()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: BaseException) -> AuditError:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            return AuditError(f"{self.path} cannot be opened for reading", hint="read it as the user that runs Egress")
        return explain(error, self.path)

    @staticmethod
    def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
        (decisions,) = connection.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()
        (outcomes,) = connection.execute("SELECT coalesce(max(seq), 0) FROM outcomes").fetchone()
        return decisions, outcomes


def _first_since(connection: sqlite3.Connection, since_us: int, last: int) -> int:
    """A `seq` before which no row has a time of `since_us` or later, found without an index on time.

    Rows are appended as time passes, so bisection finds the place; a row whose time is over five minutes before
    `since_us` has nothing wanted before it, unless a clock was set back by more than that.
    """
    low, high = 0, last + 1
    while high - low > 1:
        middle = (low + high) // 2
        (time_us,) = connection.execute("SELECT time_us FROM decisions WHERE seq >= ? LIMIT 1", (middle,)).fetchone()
        if time_us < since_us - _DISORDER_US:
            low = middle
        else:
            high = middle
    return low


def _row(values: tuple[Any, ...]) -> AuditRow:
    """The row of the view as a value. `secrets` that are no JSON list (another program's) come out as one name."""
    try:
        secrets = json.loads(values[_SECRETS])
        names = tuple(str(name) for name in secrets) if isinstance(secrets, list) else (str(secrets),)
    except ValueError:
        names = (str(values[_SECRETS]),)
    return AuditRow(*[*values[:_SECRETS], names, *values[_SECRETS + 1 :]])

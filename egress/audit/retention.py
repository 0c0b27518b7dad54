"""Letting go of old rows: by age, by number, by the size of the file; whole batches, oldest first, a few at a time.

1. what goes leaves a signed checkpoint (`drops`), from which the chain goes on: verifying begins there
2. a slice is one transaction of a bounded number of rows, so that recording never waits long for it
3. the newest batch stays, and the newest row of each table, so that no `seq` is ever given twice
4. the space goes back to the file system a few pages at a time
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.audit.chain import TABLES, Bounds, End, checkpoint_text
from egress.audit.links import know_signer
from egress.audit.search import forget

if TYPE_CHECKING:
    import sqlite3

    from egress.audit.signing import Signer

# Rows of one table that a slice takes, beyond which it stops at the next whole batch.
_SLICE: Final = 2_000
# Pages that go back to the file system after a slice.
_PAGES: Final = 500
_OLDEST: Final = (
    "SELECT number, time_us, decisions, outcomes, events, hash FROM batches"
    " WHERE number < (SELECT max(number) FROM batches) ORDER BY number"
)


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept; None: no bound. `rows` are decisions, `size` is the bytes of the database in use."""

    seconds: float | None = None
    rows: int | None = None
    size: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether anything is ever dropped."""
        return not (self.seconds is None and self.rows is None and self.size is None)


def drop_some(connection: sqlite3.Connection, retention: Retention, signer: Signer, now_us: int) -> int:
    """Drop a slice of what need not be kept; how many rows went, 0 where there is nothing to do. Raises sqlite3.Error.

    Either all of the slice goes, with its checkpoint, or nothing.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        end = _last_to_drop(connection, retention, now_us)
        dropped = 0 if end is None else _drop(connection, end, signer, now_us)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if dropped:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    return dropped


def _last_to_drop(connection: sqlite3.Connection, retention: Retention, now_us: int) -> End | None:
    """The last batch of the slice; None if none is due."""
    (newest,) = connection.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()
    too_large = retention.size is not None and _bytes_in_use(connection) > retention.size
    found, first = None, None
    for number, time_us, *last, digest in connection.execute(_OLDEST):
        old = retention.seconds is not None and time_us < now_us - retention.seconds * 1_000_000
        many = retention.rows is not None and newest - last[0] >= retention.rows
        if not (old or many or too_large):
            break
        bounds = Bounds(*last)
        first = first or bounds
        found = number, bounds, digest
        if max(map(int.__sub__, bounds, first)) >= _SLICE:
            break
    if found is None:
        return None
    (chain,) = connection.execute("SELECT id FROM chains LIMIT 1").fetchone()
    return End(chain, *found)


def _drop(connection: sqlite3.Connection, end: End, signer: Signer, now_us: int) -> int:
    know_signer(connection, signer)
    signature = signer.sign(checkpoint_text("drop", end, now_us))
    connection.execute(
        "INSERT INTO drops VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (end.number, now_us, *end.bounds, end.digest, signer.fingerprint, signature),
    )
    forget(connection, end.bounds.decisions)
    dropped = 0
    for table, last in zip(TABLES, end.bounds, strict=True):
        gone = f"DELETE FROM {table} WHERE seq <= ? AND seq < (SELECT max(seq) FROM {table})"  # noqa: S608 -- constants
        dropped += connection.execute(gone, (last,)).rowcount
    connection.execute("DELETE FROM batches WHERE number <= ?", (end.number,))
    return max(dropped, 1)


def _bytes_in_use(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)

"""One batch, one transaction: every row of it is in the database when this returns, and none is there twice.

A batch may be written again after a failure that was none (a commit that was applied but reported an error, a file
found replaced afterwards): rows that are there already are left alone, and then compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.audit.links import append_link, ends
from egress.audit.row import COLUMNS, DECISIONS, EVENTS, OUTCOMES, packed
from egress.audit.schema import MIGRATIONS, insert_statement
from egress.errors import AuditError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from egress.audit.row import Row

_INSERT = {table: insert_statement(table) for table in (DECISIONS, OUTCOMES, EVENTS)}
_SELECT = {
    table: f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?"  # noqa: S608 -- constants
    for table, columns in COLUMNS.items()
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows by table, in the order in which they were offered; and beside each, what it is packed."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {DECISIONS: [], OUTCOMES: [], EVENTS: []})
    packed: dict[str, list[bytes]] = field(default_factory=lambda: {DECISIONS: [], OUTCOMES: [], EVENTS: []})

    @classmethod
    def of(cls, entries: Iterable[tuple[str, Row]]) -> Batch:
        """Sort (table, row) pairs into a batch."""
        return cls.of_packed((table, row, packed(table, row)) for table, row in entries)

    @classmethod
    def of_packed(cls, entries: Iterable[tuple[str, Row, bytes]]) -> Batch:
        """Sort rows that are packed already into a batch."""
        batch = cls()
        for table, row, data in entries:
            batch.rows[table].append(row)
            batch.packed[table].append(data)
        return batch

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows.values())


def write_batch(connection: sqlite3.Connection, batch: Batch, time_us: int) -> tuple[str, ...]:
    """Append the batch and its link in one transaction; gives the ids under which something else was recorded before.

    Raises sqlite3.Error or AuditError; nothing of the batch is applied then, or it is found applied at the next try.
    """
    taken: list[str] = []
    whole = True
    connection.execute("BEGIN IMMEDIATE")
    try:
        first = ends(connection)
        for table, rows in batch.rows.items():
            if rows:
                before = connection.total_changes
                connection.executemany(_INSERT[table], rows)
                if connection.total_changes - before != len(rows):
                    whole = False
                    taken += _taken(connection, table, rows)
        append_link(connection, batch, first, len(MIGRATIONS), time_us, whole=whole)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return tuple(taken)


def _taken(connection: sqlite3.Connection, table: str, rows: Sequence[Row]) -> list[str]:
    """The ids of the rows that are in the table with other contents. A row that is not there at all is an error."""
    taken = []
    for row in rows:
        found = connection.execute(_SELECT[table], row[:1]).fetchone()
        if found is None:
            raise AuditError(f"a row of {table} was not recorded", hint="the audit database is damaged; move it away")
        if found != row:
            taken.append(str(row[0]))
    return taken

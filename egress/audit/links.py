"""The chain in the database: the link of each batch, written with it, and the checkpoints that sign it.

INVARIANT one-transaction: a batch and its link are committed together, so that no moment of a crash leaves one alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.audit.chain import (
    TABLES,
    Bounds,
    End,
    Span,
    canonical,
    checkpoint_text,
    digest_of,
    genesis,
    marks_of,
    numbered,
)
from egress.audit.row import COLUMNS
from egress.errors import AuditError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from egress.audit.batch import Batch
    from egress.audit.signing import Signer

_INSERT = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LAST = "SELECT number, decisions, outcomes, events, hash FROM {table} ORDER BY number DESC LIMIT 1"
_SINCE = {
    table: f"SELECT seq, {', '.join(columns)} FROM {table} WHERE seq > ? ORDER BY seq"  # noqa: S608 -- constants
    for table, columns in COLUMNS.items()
}


def ends(connection: sqlite3.Connection) -> Bounds:
    """The last `seq` of each table now."""
    return Bounds(
        *[connection.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()[0] for table in TABLES]  # noqa: S608
    )


def end_of(connection: sqlite3.Connection) -> End:
    """Where the chain of this file ends. Raises AuditError if there is none."""
    row = connection.execute("SELECT id, decisions, outcomes, events FROM chains LIMIT 1").fetchone()
    if row is None:
        raise AuditError("the audit database has lost its chain", hint="move it away; a new one is made")
    found = [connection.execute(_LAST.format(table=table)).fetchone() for table in ("batches", "drops")]
    last = max((one for one in found if one is not None), default=None)
    if last is None:
        start = Bounds(*row[1:])
        return End(row[0], 0, start, genesis(row[0], start))
    return End(row[0], last[0], Bounds(*last[1:4]), last[4])


def append_link(
    connection: sqlite3.Connection, batch: Batch, before: Bounds, schema: int, time_us: int, *, whole: bool
) -> None:
    """Link what the transaction has added to the tables since `before`. `whole`: that is all of the batch, in order."""
    after = ends(connection)
    if after == before:
        return
    end = end_of(connection)
    rows = list(_added(batch, before) if whole else _since(connection, before, schema))
    marks = marks_of(rows)
    span = Span(end.number + 1, schema, time_us, before, after)
    connection.execute(
        _INSERT, (span.number, schema, time_us, *before, *after, marks, digest_of(end.digest, span, rows, marks))
    )


def sign_end(connection: sqlite3.Connection, signer: Signer, time_us: int) -> int:
    """Sign the chain as far as it reaches, unless that is done; the number of its last batch."""
    end = end_of(connection)
    if not end.number or connection.execute("SELECT 1 FROM checkpoints WHERE number = ?", (end.number,)).fetchone():
        return end.number
    signature = signer.sign(checkpoint_text("end", end, time_us))
    know_signer(connection, signer)
    connection.execute(
        "INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (end.number, time_us, signer.fingerprint, signature)
    )
    return end.number


def know_signer(connection: sqlite3.Connection, signer: Signer) -> None:
    """Have the public key in the file, so that it can say by itself which key signed what."""
    connection.execute("INSERT INTO signers VALUES (?, ?) ON CONFLICT DO NOTHING", (signer.fingerprint, signer.public))


def _added(batch: Batch, before: Bounds) -> Iterator[bytes]:
    for table, last in zip(TABLES, before, strict=True):
        for seq, data in enumerate(batch.packed[table], last + 1):
            yield numbered(seq, data)


def _since(connection: sqlite3.Connection, before: Bounds, schema: int) -> Iterator[bytes]:
    for table, last in zip(TABLES, before, strict=True):
        yield from canonical(table, connection.execute(_SINCE[table], (last,)), schema)

"""The schema of the audit database and its migrations.

1. `PRAGMA application_id` says that a file is an audit database of ours; `PRAGMA user_version` is its schema version.
2. A file with an older version is migrated forward when the proxy opens it, in one transaction: all or nothing.
3. A file with a newer version, or of another program, is refused and left as it is.

INVARIANT append-only: no statement changes or removes a row of `decisions`, `outcomes` or `events`, or what proves
them (`chain`); triggers abort it. What retention drops must stand in `drops` first.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from egress.audit.chain import TABLES, columns_of
from egress.audit.row import COLUMNS, DECISIONS, EVENTS, INTEGERS, OUTCOMES, REQUIRED
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlite_utils import Database

type Migration = Callable[[Database], None]

APPLICATION_ID = 0x45475241  # "EGRA"

_REQUESTS_VIEW = """
    SELECT d.seq, d.id, d.time_us,
           CASE WHEN o.id IS NULL AND d.verdict = 'allow' THEN 'open' ELSE 'done' END AS state,
           d.sandbox, d.client, d.verdict, d.reason, d.scope, d.rule, d.file, d.line, d.policy_hash,
           d.method, d.scheme, d.host, d.port, d.path, d.query, d.sni, d.protocol, d.lane,
           coalesce(o.address, d.address) AS address,
           o.status, o.bytes_up, o.bytes_down, o.duration_us, o.first_byte_us, d.secrets, {labels}d.detail,
           o.error{rest}
    FROM decisions AS d LEFT JOIN outcomes AS o ON o.id = d.id
"""


def first_schema(database: Database) -> None:
    """Version 1: three append-only tables and the view that joins them."""
    for name in COLUMNS:
        columns = columns_of(name, 1)
        database.create_table(
            name,
            {"seq": int} | {column: int if column in INTEGERS else str for column in columns},
            pk="seq",
            not_null=REQUIRED & set(columns),
            strict=True,
        )
        database.table(name).create_index(["id"], f"{name}_id", unique=True)
        for trigger in _append_only(name):
            database.execute(trigger)
    database.create_view("requests", _REQUESTS_VIEW.format(labels="", rest=""))


def add_labels(database: Database) -> None:
    """Version 2: the labels that rules annotate, a JSON object; NULL where there are none."""
    database.execute(f"ALTER TABLE {DECISIONS} ADD COLUMN labels TEXT")
    database.create_view("requests", _REQUESTS_VIEW.format(labels="d.labels, ", rest=""), replace=True)


def add_rewritten(database: Database) -> None:
    """Version 3: where a rule sent a request instead of where it was asked for; NULL where it went there."""
    database.execute(f"ALTER TABLE {DECISIONS} ADD COLUMN rewritten TEXT")
    view = _REQUESTS_VIEW.format(labels="d.labels, ", rest=", d.rewritten")
    database.create_view("requests", view, replace=True)


def add_chain(database: Database) -> None:
    """Version 4: the chain over the batches, and the checkpoints that sign it (see `chain`).

    `chains` says where each chain begins: rows up to there are in none. `drops` are checkpoints of what retention let
    go: rows and batches up to there may be deleted, and no others.
    """
    for statement in _CHAIN_TABLES.split(";"):
        database.execute(statement)
    for name in ("chains", "batches", "checkpoints", "drops", "signers"):
        for trigger in _kept(name):
            database.execute(trigger)
    for name in TABLES:
        database.execute(f"DROP TRIGGER {name}_no_delete")
        database.execute(_drop_only(name, "seq", name))
    database.execute("DROP TRIGGER batches_no_delete")
    database.execute(_drop_only("batches", "number", "number"))
    bounds = ", ".join(f"(SELECT coalesce(max(seq), 0) FROM {name})" for name in TABLES)  # noqa: S608 -- constants
    database.execute(f"INSERT INTO chains SELECT lower(hex(randomblob(16))), {bounds}")


def add_count(database: Database) -> None:
    """Version 6: how many alike decisions a row stands for: in a flood of denials, more than one."""
    database.execute(f"ALTER TABLE {DECISIONS} ADD COLUMN count INTEGER NOT NULL DEFAULT 1")
    view = _REQUESTS_VIEW.format(labels="d.labels, ", rest=", d.rewritten, d.count")
    database.create_view("requests", view, replace=True)


_CHAIN_TABLES = """
    CREATE TABLE chains (
        id TEXT PRIMARY KEY NOT NULL, decisions INTEGER NOT NULL, outcomes INTEGER NOT NULL, events INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE batches (
        number INTEGER PRIMARY KEY, schema INTEGER NOT NULL, time_us INTEGER NOT NULL,
        decisions_first INTEGER NOT NULL, outcomes_first INTEGER NOT NULL, events_first INTEGER NOT NULL,
        decisions INTEGER NOT NULL, outcomes INTEGER NOT NULL, events INTEGER NOT NULL,
        marks BLOB NOT NULL, hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE checkpoints (
        number INTEGER NOT NULL, time_us INTEGER NOT NULL, signer TEXT NOT NULL, signature BLOB NOT NULL,
        PRIMARY KEY (number, signer)
    ) STRICT;
    CREATE TABLE drops (
        number INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, decisions INTEGER NOT NULL, outcomes INTEGER NOT NULL,
        events INTEGER NOT NULL, hash BLOB NOT NULL, signer TEXT, signature BLOB
    ) STRICT;
    CREATE TABLE signers (fingerprint TEXT PRIMARY KEY NOT NULL, public BLOB NOT NULL) STRICT
"""


def add_search(database: Database) -> None:
    """Version 5: what finds rare rows (see `search`); of what is recorded, only refusals and failures cost more.

    `searched` is the number of blocks that are in the index `search`.
    """
    database.execute(f"CREATE INDEX decisions_refused ON {DECISIONS} (verdict) WHERE verdict <> 'allow'")
    database.execute(f"CREATE INDEX outcomes_failed ON {OUTCOMES} (error, id) WHERE error IS NOT NULL")
    database.execute("CREATE TABLE searched (blocks INTEGER NOT NULL) STRICT")
    database.execute("INSERT INTO searched VALUES (0)")
    # A SQLite without FTS5, or older than its trigrams, records all the same, and scans.
    with contextlib.suppress(sqlite3.OperationalError):
        database.execute(
            "CREATE VIRTUAL TABLE search USING fts5 (text, content = '', detail = none, tokenize = 'trigram')"
        )


def ask_apart(database: Database) -> None:
    """Version 7: what keeps a row from being replaced asks two questions; one with OR makes inserts slower."""
    for name in COLUMNS:
        database.execute(f"DROP TRIGGER {name}_no_replace")
        database.execute(_no_replace(name))


def add_trace(database: Database) -> None:
    """Version 8: what each scope said, and which headers were changed, a JSON object; NULL where there is neither."""
    database.execute(f"ALTER TABLE {DECISIONS} ADD COLUMN trace TEXT")
    view = _REQUESTS_VIEW.format(labels="d.labels, ", rest=", d.rewritten, d.count, d.trace")
    database.create_view("requests", view, replace=True)


def add_road(database: Database) -> None:
    """Version 9: which way the client came; NULL where that was HTTP to a proxy."""
    database.execute(f"ALTER TABLE {DECISIONS} ADD COLUMN road TEXT")
    view = _REQUESTS_VIEW.format(labels="d.labels, ", rest=", d.rewritten, d.count, d.trace, d.road")
    database.create_view("requests", view, replace=True)


def hash_packed(_: Database) -> None:
    """Version 10: batches are hashed over their rows as they are packed (see `chain`); the tables stay as they are."""


MIGRATIONS: tuple[Migration, ...] = (
    first_schema,
    add_labels,
    add_rewritten,
    add_chain,
    add_search,
    add_count,
    ask_apart,
    add_trace,
    add_road,
    hash_packed,
)
# The oldest version that is read as the newest is: what came later changed no table, column or view.
READABLE = 9


def insert_statement(table: str) -> str:
    """The insert of one row. A row whose `id` is there already is left as it is; any other conflict is an error."""
    columns = COLUMNS[table]
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 -- constants


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of the database; 0 for an empty one. A foreign or newer one is an AuditError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (objects or version or application):
        raise AuditError(f"{path} is a database, but not an audit database", hint="name another file with --audit")
    if version > len(MIGRATIONS):
        raise AuditError(
            f"{path} was written by a newer Egress (schema {version}, this one knows {len(MIGRATIONS)})",
            hint="use that version, or name another file with --audit",
        )
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the newest schema, in one transaction; another process may be doing the same."""
    if version_of(connection, path) == len(migrations):
        return
    from sqlite_utils import Database  # noqa: PLC0415 -- 0.2 s that only the first start and an upgrade need

    connection.execute("BEGIN IMMEDIATE")
    try:
        database = Database(connection, execute_plugins=False)
        for number in range(version_of(connection, path), len(migrations)):
            migrations[number](database)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def probe(connection: sqlite3.Connection) -> None:
    """Fail now rather than at the first row, if a table, a column, or the page that grows is not as it should be."""
    connection.execute("SELECT * FROM requests ORDER BY seq DESC LIMIT 1").fetchone()
    for table in (DECISIONS, OUTCOMES, EVENTS):
        columns = COLUMNS[table]
        connection.execute(f"EXPLAIN {insert_statement(table)}", (None,) * len(columns)).fetchone()


def _append_only(table: str) -> tuple[str, ...]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        _no_replace(table),
    )


def _no_replace(table: str) -> str:
    # INSERT OR REPLACE deletes the old row without firing the trigger on DELETE. No row is ever given a `seq`.
    there = (f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})" for key in ("id", "seq"))  # noqa: S608 -- constants
    skip = "BEGIN SELECT RAISE(IGNORE); END"
    return f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {' OR '.join(there)} {skip}"


def _kept(table: str) -> tuple[str, ...]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
    )


def _drop_only(table: str, key: str, bound: str) -> str:
    dropped = f"(SELECT coalesce(max({bound}), 0) FROM drops)"  # noqa: S608 -- constants
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    return f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} WHEN OLD.{key} > {dropped} {refuse}"

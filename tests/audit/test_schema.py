"""The schema: append-only, versioned, migrated in one go."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditReader
from egress.audit.database import open_for_writing
from egress.audit.row import COLUMNS
from egress.audit.schema import APPLICATION_ID, MIGRATIONS, READABLE, migrate, version_of
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlite_utils import Database

    from egress.audit import AuditWriter

ISSUE_COLUMNS = {
    *("id", "time_us", "sandbox", "client", "verdict", "reason", "scope", "rule", "file", "line", "policy_hash"),
    *("method", "scheme", "host", "port", "path", "query", "sni", "protocol", "lane", "address", "status"),
    *("bytes_up", "bytes_down", "duration_us", "first_byte_us", "secrets", "labels", "detail", "error", "state"),
    "rewritten",
    "count",
    "trace",
    "road",
}

TAMPERING = [
    "UPDATE {table} SET time_us = 0",
    "DELETE FROM {table}",
    "UPDATE OR IGNORE {table} SET id = 'x'",
    "INSERT INTO {table} SELECT * FROM {table} WHERE 1 ON CONFLICT (id) DO UPDATE SET time_us = 0",
    "REPLACE INTO {table} SELECT seq, 'other', {rest} FROM {table}",
    "INSERT OR REPLACE INTO {table} SELECT seq + 100, id, {zeroed} FROM {table}",
]


@pytest.mark.parametrize("sql", TAMPERING)
@pytest.mark.parametrize("table", ["decisions", "outcomes", "events"])
def test_rows_are_append_only(
    *,
    table: str,
    sql: str,
    database: Path,
    start: Callable[..., AuditWriter],
    decision: Callable,
    outcome: Callable,
    rows: Callable,
) -> None:
    """No UPDATE, DELETE, upsert or REPLACE by any connection changes or removes a row."""
    writer = start()
    assert writer.offer(decision(1))
    assert writer.offer(outcome(1))
    assert writer.note("start", "a test")
    assert writer.close(5)
    before = rows(database, f"SELECT * FROM {table}")  # noqa: S608 -- constants
    rest = ", ".join(column for column in COLUMNS[table] if column != "id")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        try:
            connection.execute(sql.format(table=table, rest=rest, zeroed=rest.replace("time_us", "0")))
        except sqlite3.IntegrityError as error:
            assert "append-only" in str(error)  # noqa: PT017 -- some statements are ignored instead
    assert rows(database, f"SELECT * FROM {table}") == before  # noqa: S608 -- constants


def test_the_view_has_the_columns_of_the_interface(database: Path, start: Callable[..., AuditWriter]) -> None:
    """Everything that the documentation names is in the view `requests`."""
    start()
    with closing(sqlite3.connect(database)) as connection:
        names = {column[0] for column in connection.execute("SELECT * FROM requests").description}
    assert names == ISSUE_COLUMNS | {"seq"}


def _second(database: Database) -> None:
    database.execute("ALTER TABLE decisions ADD COLUMN second TEXT")


def test_an_older_database_is_migrated_and_keeps_its_rows(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """Only the missing migrations run, and the version says so."""
    writer = start()
    writer.offer(decision(1))
    writer.close(5)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        migrate(connection, database, (*MIGRATIONS, _second))
        assert connection.execute("SELECT id, second FROM decisions").fetchall() == [("id-000001", None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_database_of_every_earlier_version_is_brought_up_to_date(
    version: int, database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """The proxy takes it as it finds it; who only reads does so where that is the same, and says what to do else."""
    database.parent.mkdir(exist_ok=True)
    database.touch(0o600)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        migrate(connection, database, MIGRATIONS[:version])
    if version >= READABLE:
        with AuditReader(database) as reader:
            assert reader.newest(limit=1) == []
    else:
        with pytest.raises(AuditError, match="older Egress"):
            AuditReader(database)
    writer = start()
    assert writer.offer(decision(1))
    assert writer.close(5)
    with AuditReader(database) as reader:
        assert [row.id for row in reader.newest(limit=5)] == ["id-000001"]
        assert reader.verify().problems == []


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    database: Path, start: Callable[..., AuditWriter]
) -> None:
    """All migrations or none."""
    start().close(5)

    def broken(database: Database) -> None:
        _second(database)
        raise RuntimeError

    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        with pytest.raises(RuntimeError):
            migrate(connection, database, (*MIGRATIONS, broken))
        assert version_of(connection, database) == len(MIGRATIONS)
        assert "second" not in [column[1] for column in connection.execute("PRAGMA table_info(decisions)")]


def test_a_newer_database_is_refused_and_left_alone(
    database: Path, start: Callable[..., AuditWriter], rows: Callable
) -> None:
    """An older Egress neither writes to nor reads what it does not know."""
    start().close(5)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AuditError, match="newer Egress"):
        open_for_writing(database)
    with pytest.raises(AuditError, match="newer Egress"):
        AuditReader(database)
    assert rows(database, "PRAGMA user_version") == [(99,)]


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, rows: Callable) -> None:
    """Naming the wrong file does not add tables to it."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    path.chmod(0o600)
    with pytest.raises(AuditError, match="not an audit database"):
        open_for_writing(path)
    assert rows(path, "SELECT name FROM sqlite_schema") == [("mine",)]


def test_a_new_database_says_that_it_is_one(database: Path, start: Callable[..., AuditWriter], rows: Callable) -> None:
    """The application id is how a file is known again."""
    start().close(5)
    assert rows(database, "PRAGMA application_id") == [(APPLICATION_ID,)]


def test_a_creation_that_was_cut_short_is_taken_up(database: Path, start: Callable[..., AuditWriter]) -> None:
    """An empty file, as kill -9 between creating and migrating leaves it, becomes a database."""
    database.parent.mkdir()
    database.touch(0o600)
    assert start().healthy

"""Verifying the record: whatever is changed in the file is found, and said where; what was recorded holds."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditReader, Signer, verify_parts
from egress.audit.chain import TABLES, columns_of
from egress.audit.database import open_for_writing
from egress.audit.row import COLUMNS
from egress.audit.schema import MIGRATIONS, add_chain
from egress.audit.signing import KEY_NAME, PUBLIC_NAME, read_public
from egress.audit.verify import Expected
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter
    from egress.audit.verify import Report

# What a person with a SQL shell does first.
WITHOUT_TRIGGERS = [
    f"DROP TRIGGER IF EXISTS {table}_no_{what}"
    for table in ("decisions", "outcomes", "events", "batches", "checkpoints", "drops", "chains", "signers")
    for what in ("update", "delete", "replace")
]

# The view's name, and its columns but for two that stand under each other's name.
EXCHANGED = (
    "(SELECT 'requests (' || group_concat(CASE name WHEN 'host' THEN 'sni' WHEN 'sni' THEN 'host' ELSE name END) || ')'"
    " FROM pragma_table_info('requests'))"
)

# What is done to a record of 6 batches, each of 2 decisions, 2 outcomes and 1 event; and what is said about it.
TAMPERING = {
    "a column edited": (
        ["UPDATE decisions SET verdict = 'allow', host = 'x' WHERE seq = 5"],
        ["decisions: row 5 was edited, in batch 3"],
    ),
    "a number edited": (["UPDATE outcomes SET status = 7 WHERE seq = 12"], ["outcomes: row 12 was edited, in batch 6"]),
    "a value made null": (["UPDATE events SET detail = NULL WHERE seq = 1"], ["events: row 1 was edited, in batch 1"]),
    "a type changed": (["UPDATE decisions SET path = '443', port = 1 WHERE seq = 1"], ["decisions: row 1 was edited"]),
    "a row deleted": (["DELETE FROM decisions WHERE seq = 4"], ["decisions: row 4 was deleted, in batch 2"]),
    "rows of several batches deleted": (
        ["DELETE FROM outcomes WHERE seq BETWEEN 4 AND 5"],
        ["outcomes: row 4 was deleted, in batch 2", "outcomes: row 5 was deleted, in batch 3"],
    ),
    "rows exchanged": (
        [
            "UPDATE decisions SET seq = -1 WHERE seq = 3",
            "UPDATE decisions SET seq = 3 WHERE seq = 4",
            "UPDATE decisions SET seq = 4 WHERE seq = -1",
        ],
        ["decisions: rows 3 to 4 were edited, in batch 2"],
    ),
    "a row inserted at the end": (
        ["INSERT INTO events (id, time_us, kind) VALUES ('new', 1, 'start')"],
        ["events: row 7 is in no batch, after the last one"],
    ),
    "a row inserted below the first": (
        ["INSERT INTO events (seq, id, time_us, kind) VALUES (-1, 'new', 1, 'start')"],
        ["events: row -1 is in no batch, before the first one"],
    ),
    "an outcome made up for a denial": (
        ["INSERT INTO outcomes (seq, id, time_us, status) VALUES (0, 'new', 1, 200)"],
        ["outcomes: row 0 is in no batch, before the first one"],
    ),
    "bytes that are no text": (
        ["UPDATE decisions SET host = CAST(x'ff' AS TEXT) WHERE seq = 5"],
        ["decisions: row 5 was edited, in batch 3"],
    ),
    "a batch's bounds widened without end": (
        ["UPDATE batches SET outcomes = 1 << 60 WHERE number = 6"],
        ["outcomes: rows 13 to ", "were deleted, in batch 6"],
    ),
    "a view that leaves a row out": (
        [
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = sql || ' WHERE d.seq <> 5' WHERE name = 'requests'",
        ],
        ["the view `requests` is another one"],
    ),
    "a view that shows columns under each other's names": (
        [
            "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_schema SET sql = replace(sql, '\"requests\"', {EXCHANGED}) WHERE name = 'requests'",  # noqa: S608 -- constants
        ],
        ["the view `requests` is another one"],
    ),
    "a view of another table, whose name begins with what is a space to us": (
        [
            'CREATE VIEW "\u00a0decisions" AS SELECT * FROM decisions WHERE seq <> 5',
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = replace(sql, 'FROM d', 'FROM \u00a0d') WHERE name = 'requests'",
        ],
        ["the view `requests` is another one"],
    ),
    "the view gone": (["DROP VIEW requests"], ["the view `requests` is another one"]),
    "a row put in place of another": (
        [
            "DELETE FROM events WHERE seq = 2",
            "INSERT INTO events (seq, id, time_us, kind) VALUES (2, 'new', 1, 'start')",
        ],
        ["events: row 2 was edited, in batch 2"],
    ),
    "the end cut off": (
        [
            "DELETE FROM batches WHERE number > 4",
            "DELETE FROM decisions WHERE seq > 8",
            "DELETE FROM outcomes WHERE seq > 8",
            "DELETE FROM events WHERE seq > 4",
        ],
        ["the record ends at batch 4, but batch 6 was signed: its end is cut off"],
    ),
    "the last rows cut off": (["DELETE FROM outcomes WHERE seq > 11"], ["outcomes: row 12 was deleted, in batch 6"]),
    "a batch taken out": (["DELETE FROM batches WHERE number = 3"], ["batch 3 is missing"]),
    "the beginning cut off": (
        ["DELETE FROM batches WHERE number < 3", "DELETE FROM decisions WHERE seq < 5"],
        ["batches 1 to 2 are missing"],
    ),
    "a batch's time edited": (["UPDATE batches SET time_us = 5 WHERE number = 2"], ["batch 2 (1970-01-01T00"]),
    "a batch's bounds widened": (
        ["UPDATE batches SET events = 3 WHERE number = 2"],
        ["batch 2 ", "events: row 3 was inserted or moved, before batch 3"],
    ),
    "a batch's bounds below all numbers": (
        ["UPDATE batches SET events = 1 << 62, events_first = -(1 << 62) - (1 << 62) WHERE number = 2"],
        ["events: rows -9223372036854775807 to 1 were inserted or moved, before batch 2"],
    ),
    "a batch's hash edited": (
        ["UPDATE batches SET hash = zeroblob(32) WHERE number = 2"],
        ["batch 2 ", "batch 3 "],
    ),
    "marks edited": (["UPDATE batches SET marks = zeroblob(20) WHERE number = 2"], ["decisions: rows 3 to 4"]),
    "marks gone": (["UPDATE batches SET marks = x'' WHERE number = 2"], ["batch 2 "]),
    "a checkpoint's signature edited": (
        ["UPDATE checkpoints SET signature = zeroblob(64)"],
        ["the checkpoint of batch 6", "has no good signature"],
    ),
    "a checkpoint's time edited": (["UPDATE checkpoints SET time_us = 9"], ["the checkpoint of batch 6"]),
    "another key's checkpoint": (["UPDATE signers SET public = zeroblob(32)"], ["the checkpoint of batch 6"]),
    "a drop that nobody signed": (
        ["INSERT INTO drops SELECT number, 1, decisions, outcomes, events, hash, '', x'' FROM batches LIMIT 1"],
        ["rows up to batch 1 were dropped without a good signature"],
    ),
    "the chain's beginning moved": (["UPDATE chains SET decisions = 2"], ["batch 1 "]),
    "the chain exchanged": (["UPDATE chains SET id = 'another'"], ["batch 1 ", "the checkpoint"]),
}


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """A key of the proxy's."""
    return Signer.load_or_create(tmp_path)


@pytest.fixture
def recorded(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable, signer: Signer
) -> Path:
    """A database with six batches."""
    writer = start(signer=signer)
    for number in range(0, 12, 2):
        for one in (number, number + 1):
            assert writer.offer(decision(one))
            assert writer.offer(outcome(one))
        assert writer.note("reload", f"the {number}.")
        assert writer.flush(10)
    assert writer.close(10)
    with closing(sqlite3.connect(database)) as connection:
        (batches,) = connection.execute("SELECT count(*) FROM batches").fetchone()
    if batches != 6:
        pytest.fail(f"{batches} batches: the writer was too slow to hold the rows of one apart")
    return database


def _verified(path: Path, **options: object) -> Report:
    with AuditReader(path) as reader:
        return reader.verify(**options)  # type: ignore[arg-type]


def test_what_was_recorded_holds(recorded: Path, signer: Signer) -> None:
    """Every row is covered, and the end is signed when the writer closes."""
    report = _verified(recorded)
    assert report.problems == []
    assert (report.rows, report.batches, report.last, report.signed_to) == (30, 6, 6, 6)
    assert report.signers == [signer.fingerprint]


@pytest.mark.parametrize("what", TAMPERING)
def test_a_change_is_found_and_said_where(recorded: Path, what: str) -> None:
    """Whatever is edited, deleted, inserted, moved or cut off."""
    statements, expected = TAMPERING[what]
    with closing(sqlite3.connect(recorded, isolation_level=None)) as connection:
        for statement in (*WITHOUT_TRIGGERS, *statements):
            connection.execute(statement)
    report = _verified(recorded)
    assert not report.holds
    told = "\n".join(report.problems)
    for part in expected:
        assert part in told


@pytest.mark.parametrize("what", [*TAMPERING, "nothing"])
def test_several_processes_say_what_one_says(recorded: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same order, wherever the parts begin and end."""
    with closing(sqlite3.connect(recorded)) as connection, connection:
        for statement in [*WITHOUT_TRIGGERS, *TAMPERING.get(what, ([], []))[0]]:
            connection.execute(statement)
    alone = _verified(recorded)
    # Threads of this process, which begin sooner.
    monkeypatch.setattr(verify_parts, "_pool", ThreadPoolExecutor)
    for batches in (1, 2, 4, 9):
        monkeypatch.setattr(verify_parts, "_PART", batches)
        assert _verified(recorded, processes=2) == alone


def test_a_part_is_verified_in_a_process_of_its_own(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told as the parts come in."""
    monkeypatch.setattr(verify_parts, "_PART", 2)
    told: list[int] = []
    assert _verified(recorded, processes=2, progress=told.append) == _verified(recorded)
    assert told == sorted(told)
    assert told[-1] == 30


@pytest.mark.parametrize("table", ["decisions", "outcomes", "events"])
def test_no_column_of_no_row_can_be_changed_unnoticed(recorded: Path, table: str) -> None:
    """Each column of each table is in the hash."""
    for column in ("seq", *COLUMNS[table]):
        with closing(sqlite3.connect(recorded, isolation_level=None)) as connection:
            for statement in WITHOUT_TRIGGERS:
                connection.execute(statement)
            (old,) = connection.execute(f"SELECT {column} FROM {table} WHERE seq = 2").fetchone()  # noqa: S608 -- constants
            changed = 99 if column == "seq" or isinstance(old, int) else 4 if old is None and "_" in column else "7"
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE seq = 2", (changed,))  # noqa: S608 -- constants
            assert not _verified(recorded).holds, column
            where = 99 if column == "seq" else 2
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE seq = ?", (old, where))  # noqa: S608 -- constants
    assert _verified(recorded).holds


def test_a_checkpoint_kept_elsewhere_finds_a_record_made_anew(recorded: Path) -> None:
    """Who has the file and the key can make another record; not one with the hash that was written down."""
    good = _verified(recorded)
    assert _verified(recorded, expected=[Expected(good.last, good.digest)]).holds
    assert "another hash" in _verified(recorded, expected=[Expected(3, good.digest)]).problems[0]
    assert "batch 7 is expected" in _verified(recorded, expected=[Expected(7, good.digest)]).problems[0]


def test_only_the_named_keys_signatures_count(recorded: Path, tmp_path: Path, signer: Signer) -> None:
    """The public key that the proxy left beside the record is enough; another one is not."""
    key = read_public(tmp_path / PUBLIC_NAME)
    assert key == signer.public
    report = _verified(recorded, key=key)
    assert report.holds
    assert report.trusted
    (tmp_path / "other").mkdir()
    other = Signer.load_or_create(tmp_path / "other")
    assert "no good signature" in _verified(recorded, key=other.public).problems[0]


def test_a_record_made_anew_without_the_key_is_found_by_the_key(
    recorded: Path, tmp_path: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """It has no checkpoint at all: nothing in it is wrong, and nothing says that the proxy wrote it."""
    recorded.unlink()
    writer = start()
    assert writer.offer(decision(1))
    assert writer.close(10)
    assert _verified(recorded).holds
    report = _verified(recorded, key=read_public(tmp_path / PUBLIC_NAME))
    assert report.problems == [
        "no checkpoint is signed by the key that was named: anybody may have written this record"
    ]


def test_rows_that_are_said_to_be_older_than_the_chain_are_found_by_the_key(
    recorded: Path, tmp_path: Path, rows: Callable[..., list[tuple[int, ...]]]
) -> None:
    """Without a batch nothing is verified: who makes a record so must not have it hold."""
    counts = [rows(recorded, f"SELECT max(seq) FROM {table}")[0][0] for table in TABLES]  # noqa: S608 -- constants
    with closing(sqlite3.connect(recorded, isolation_level=None)) as connection:
        for statement in (*WITHOUT_TRIGGERS, "DELETE FROM batches", "DELETE FROM checkpoints"):
            connection.execute(statement)
        connection.execute("UPDATE chains SET decisions = ?, outcomes = ?, events = ?", counts)
    assert _verified(recorded).unchained == sum(counts)
    assert not _verified(recorded, key=read_public(tmp_path / PUBLIC_NAME)).holds


def test_a_chain_goes_on_after_a_restart(
    recorded: Path, start: Callable[..., AuditWriter], decision: Callable, signer: Signer
) -> None:
    """The next writer links to the last batch, whether it was closed or killed."""
    writer = start(signer=signer)
    assert writer.offer(decision(100))
    assert writer.close(10)
    report = _verified(recorded)
    assert report.problems == []
    assert (report.batches, report.checkpoints, report.signed_to) == (7, 2, 7)


def test_a_record_that_is_moved_away_is_signed_to_its_end(
    database: Path, tmp_path: Path, start: Callable[..., AuditWriter], decision: Callable, signer: Signer
) -> None:
    """As when the proxy stops: what is put away for later must not be cut unnoticed."""
    writer = start(signer=signer)
    assert writer.offer(decision(1))
    assert writer.flush(10)
    moved = tmp_path / "moved.db"
    database.rename(moved)
    assert writer.offer(decision(2))
    assert writer.close(10)
    report = _verified(moved, key=signer.public)
    assert (report.problems, report.last, report.signed_to) == ([], 1, 1)
    assert _verified(database, key=signer.public).problems == []


def test_a_repeated_batch_is_linked_once(
    recorded: Path, start: Callable[..., AuditWriter], decision: Callable, signer: Signer
) -> None:
    """What is offered twice is recorded once, and the chain has what is in the file."""
    writer = start(signer=signer)
    assert writer.offer(decision(1))
    assert writer.offer(decision(200))
    assert writer.close(10)
    report = _verified(recorded)
    assert report.problems == []
    # The row that was there already, and the one that is new, and the writer's word about the first: nothing else.
    assert 31 <= report.rows <= 32


def test_rows_from_before_the_chain_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older file goes on with a chain; what it had before is counted, and no more is said of it."""
    path = tmp_path / "audit.db"
    version = MIGRATIONS.index(add_chain)
    monkeypatch.setattr("egress.audit.database.migrate", lambda connection, path: _migrate(connection, path, version))
    monkeypatch.setattr("egress.audit.database.probe", lambda _: None)
    with closing(open_for_writing(path)) as connection:
        connection.execute("INSERT INTO events (id, time_us, kind) VALUES ('old', 1, 'start')")
    monkeypatch.undo()
    open_for_writing(path).close()
    report = _verified(path)
    assert report.holds
    assert (report.unchained, report.rows) == (1, 0)


def _migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    from egress.audit.schema import migrate

    migrate(connection, path, MIGRATIONS[:version])


def test_a_batch_is_verified_with_the_columns_of_its_time() -> None:
    """A column that came later is not in the hash of rows from before it."""
    assert "labels" not in columns_of("decisions", 1)
    assert "labels" in columns_of("decisions", 2)
    assert columns_of("decisions", len(MIGRATIONS)) == COLUMNS["decisions"]


def test_the_key_is_the_owners_alone(tmp_path: Path) -> None:
    """Made with mode 0600, found again, and refused when others can read it, or it is something else."""
    first = Signer.load_or_create(tmp_path)
    assert (tmp_path / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert Signer.load_or_create(tmp_path).fingerprint == first.fingerprint
    assert "PRIVATE" not in repr(first)
    (tmp_path / KEY_NAME).chmod(0o640)
    with pytest.raises(AuditError, match="open to other users"):
        Signer.load_or_create(tmp_path)
    (tmp_path / KEY_NAME).unlink()
    (tmp_path / KEY_NAME).write_text("no key")
    (tmp_path / KEY_NAME).chmod(0o600)
    with pytest.raises(AuditError, match="no readable private key"):
        Signer.load_or_create(tmp_path)
    with pytest.raises(AuditError, match="no public Ed25519 key"):
        read_public(tmp_path / KEY_NAME)
    with pytest.raises(AuditError, match="cannot be read"):
        read_public(tmp_path / "missing.pem")


def test_what_was_recorded_is_signed_when_it_is_quiet(
    database: Path, start: Callable[..., AuditWriter], signer: Signer, monkeypatch: pytest.MonkeyPatch, until: Callable
) -> None:
    """Not only each so many batches, and at the end."""
    monkeypatch.setattr("egress.audit.writer._IDLE_SECONDS", 0.05)
    writer = start(signer=signer)
    assert writer.note("start", "a test")
    assert writer.flush(10)
    until(lambda: _verified(database).signed_to == 1)

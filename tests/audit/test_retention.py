"""Retention: old batches go, whole and signed; what stays verifies, and no number is given twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditReader, Retention, Signer
from egress.audit.retention import drop_some

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter
    from egress.audit.verify import Report

HOUR_US = 3_600_000_000
NOW_US = 1_790_000_000_000_000


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """A key of the proxy's."""
    return Signer.load_or_create(tmp_path)


@pytest.fixture
def clock() -> list[int]:
    """What the writer takes for the time of a batch."""
    return [NOW_US]


@pytest.fixture
def writing(
    start: Callable[..., AuditWriter], decision: Callable, outcome: Callable, signer: Signer, clock: list[int]
) -> Callable[..., AuditWriter]:
    """A writer that has recorded so many batches, each an hour after the one before."""

    def write(batches: int, **options: object) -> AuditWriter:
        writer = start(signer=signer, now_us=lambda: clock[0], **options)
        for number in range(batches):
            clock[0] += HOUR_US
            assert writer.offer(decision(clock[0] // HOUR_US * 10 + number))
            assert writer.offer(outcome(clock[0] // HOUR_US * 10 + number))
            assert writer.flush(10)
        return writer

    return write


def _verified(path: Path) -> Report:
    with AuditReader(path) as reader:
        return reader.verify()


def _numbers(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM decisions ORDER BY seq")]


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(), list(range(1, 11))),
        # The tenth batch is of now; those of 3 hours ago and before go at the next.
        (Retention(seconds=3.5 * 3600), [7, 8, 9, 10]),
        (Retention(rows=4), [7, 8, 9, 10]),
        (Retention(seconds=1e9, rows=1_000, size=10**9), list(range(1, 11))),
        # Whatever is asked, the newest batch stays.
        (Retention(size=1), [10]),
        (Retention(seconds=0), [10]),
    ],
)
def test_what_is_beyond_a_bound_goes(
    retention: Retention, kept: list[int], database: Path, writing: Callable[..., AuditWriter]
) -> None:
    """By age, number or size; what stays verifies from the signed checkpoint of the drop."""
    assert writing(10, retention=retention).close(10)
    assert _numbers(database) == kept
    report = _verified(database)
    assert report.problems == []
    assert report.rows == 2 * len(kept)
    assert report.dropped == 20 - 2 * len(kept)


def test_what_is_dropped_while_it_is_verified_is_no_fault(
    database: Path, writing: Callable[..., AuditWriter], clock: list[int]
) -> None:
    """The batches that are gone before they are read are told apart from deleted ones: they stand in `drops`."""
    assert writing(250).close(10)
    told = []

    def drop(rows: int) -> None:
        if not told:
            assert writing(1, retention=Retention(rows=10)).close(10)
        told.append(rows)

    with AuditReader(database) as reader:
        report = reader.verify(progress=drop)
    assert report.problems == []
    assert report.dropped > 480
    assert (told[0], told[-1], report.rows) == (400, 20, 20), "all that was there at first, then what is left"
    assert clock[0] > NOW_US


def test_no_number_is_given_twice(database: Path, writing: Callable[..., AuditWriter], clock: list[int]) -> None:
    """Not even where a whole table would be empty: events that are long gone, say."""
    writer = writing(1)
    assert writer.note("start", "once")
    assert writer.close(10)
    assert writing(5, retention=Retention(rows=1)).close(10)
    writer = writing(1, retention=Retention(rows=1))
    assert writer.note("stop", "later")
    assert writer.close(10)
    with closing(sqlite3.connect(database)) as connection:
        seqs = [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY seq")]
    assert seqs[-1] == 2
    assert _verified(database).problems == []
    assert clock[0] > NOW_US


def test_what_was_not_dropped_by_the_proxy_cannot_be_deleted(
    database: Path, writing: Callable[..., AuditWriter]
) -> None:
    """The triggers let go what a drop names, and no more."""
    assert writing(6, retention=Retention(rows=3)).close(10)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for what in ("decisions WHERE seq = 5", "batches WHERE number = 5", "drops"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(f"DELETE FROM {what}")  # noqa: S608 -- constants


def test_a_tampered_rest_is_still_found(database: Path, writing: Callable[..., AuditWriter]) -> None:
    """A drop does not hide an edit behind it, and a drop that was moved forward is not signed."""
    assert writing(8, retention=Retention(rows=4)).close(10)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for name in ("decisions_no_update", "drops_no_update"):
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE decisions SET host = 'x' WHERE seq = 7")
        assert "decisions: row 7 was edited" in _verified(database).problems[0]
        connection.execute("UPDATE drops SET hash = zeroblob(32)")
    assert "without a good signature" in _verified(database).problems[0]


def test_a_slice_that_fails_takes_nothing(database: Path, writing: Callable[..., AuditWriter], signer: Signer) -> None:
    """All of a slice goes, or none."""
    assert writing(5).close(10)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE DELETE ON outcomes BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(sqlite3.IntegrityError):
            drop_some(connection, Retention(rows=1), signer, NOW_US)
    assert _numbers(database) == [1, 2, 3, 4, 5]
    assert _verified(database).problems == []


def test_freed_pages_go_back(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, signer: Signer
) -> None:
    """The file shrinks: what is dropped is not only free inside of it."""
    writer = start(signer=signer, retention=Retention(rows=10), flush_interval=0.01)
    for number in range(3_000):
        assert writer.offer(decision(number, path="/" + "x" * 1_000))
        if number % 500 == 499:
            assert writer.flush(20)
    assert writer.offer(decision(9_999))
    assert writer.close(20)
    assert database.stat().st_size < 1_500_000
    assert _verified(database).problems == []

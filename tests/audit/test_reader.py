"""The reader: which rows it gives, in which order, beside a writer, and at what cost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import AuditReader, Filter, parse_since
from egress.audit import reader as reader_module
from egress.audit.filter_sql import where
from egress.audit.filters import Term, one
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

NOW_US = 1_790_000_000_000_000
DAY_US = 86_400_000_000

# pattern, the hosts that it gives of HOSTS
HOSTS = ["example.com", "api.example.com", "a.b.example.com", "notexample.com", "other.test", "a[1].test", "UPPER.test"]
PATTERNS = [
    ("example.com", ["example.com"]),
    ("EXAMPLE.com", ["example.com"]),
    ("*.example.com", ["api.example.com", "a.b.example.com"]),
    (".example.com", ["example.com", "api.example.com", "a.b.example.com"]),
    ("*example*", ["example.com", "api.example.com", "a.b.example.com", "notexample.com"]),
    ("a[1].test", ["a[1].test"]),
    ("?ther.test", []),
    ("upper.test", ["UPPER.test"]),
    ("' OR 1 --", []),
    ("%", []),
]


@pytest.mark.parametrize(("pattern", "hosts"), PATTERNS)
def test_host_patterns(
    pattern: str, hosts: list[str], database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """A name, a dot for apex and below, stars for anything; nothing else is special, least of all to SQL."""
    writer = start()
    for number, host in enumerate(HOSTS):
        writer.offer(decision(number, host=host))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        assert [row.host for row in reader.newest(one("host", pattern))] == hosts


def _all(**conditions: object) -> Filter:
    """Every one of these, the time in microseconds."""
    wanted = Filter()
    for field, value in conditions.items():
        wanted &= Filter((Term("since", (value,)),)) if field == "since_us" else one(field, str(value))  # type: ignore[arg-type]
    return wanted


def test_filters_must_all_hold(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable
) -> None:
    """Verdict, sandbox, reason and since, alone and together."""
    writer = start()
    writer.offer(decision(1))
    writer.offer(decision(2, verdict="deny", reason="host-not-allowed"))
    writer.offer(decision(3, verdict="deny", reason="rule-deny", sandbox="ci"))
    writer.offer(decision(4))
    writer.offer(outcome(4, error="upstream-tls: certificate has expired"))
    assert writer.flush(5)

    with AuditReader(database) as reader:

        def numbers(**conditions: object) -> list[int]:
            return [int(row.id[3:]) for row in reader.newest(_all(**conditions))]

        assert numbers() == [1, 2, 3, 4]
        assert numbers(verdict="deny") == [2, 3]
        assert numbers(verdict="deny", sandbox="ci") == [3]
        assert numbers(reason="host-not-allowed") == [2]
        assert numbers(reason="upstream-tls") == [4]
        assert numbers(reason="upstream") == []
        assert numbers(since_us=NOW_US + 3) == [3, 4]
        assert numbers(reason="' OR '1'='1") == []


def test_the_newest_are_given_oldest_first(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """The last line of a screen is the newest decision."""
    writer = start()
    for number in range(10):
        writer.offer(decision(number))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        assert [row.id for row in reader.newest(limit=3)] == ["id-000007", "id-000008", "id-000009"]
        assert reader.newest(limit=0) == []


def test_following_gives_new_rows_and_then_their_outcomes(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable
) -> None:
    """A row that was open comes again when it has ended; one that has ended by then comes once."""
    writer = start()
    writer.offer(decision(1))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        assert [(row.id, row.state) for row in reader.newest()] == [("id-000001", "open")]
        assert reader.arrived() == []
        writer.offer(decision(2))
        writer.offer(outcome(2))
        writer.offer(decision(3))
        assert writer.flush(5)
        assert [(row.id, row.state) for row in reader.arrived()] == [("id-000002", "done"), ("id-000003", "open")]
        writer.offer(outcome(1))
        writer.offer(outcome(3))
        assert writer.flush(5)
        assert [(row.id, row.state) for row in reader.arrived()] == [("id-000001", "done"), ("id-000003", "done")]
        assert reader.arrived() == []


def test_following_goes_on_in_a_database_made_anew(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """Deleting the file under proxy and reader stops neither."""
    writer = start()
    writer.offer(decision(1))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        reader.newest()
        database.unlink()
        assert reader.arrived() == []
        writer.offer(decision(2))
        assert writer.flush(5)
        assert [row.id for row in reader.arrived()] == ["id-000002"]


def test_reading_writes_nothing_and_holds_up_nobody(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """The connection refuses writes, and between questions it holds no snapshot that a checkpoint would wait for."""
    writer = start()
    writer.offer(decision(1))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        reader.newest()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("CREATE TABLE x (a)")
        with closing(sqlite3.connect(database)) as other:
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_a_closed_database_can_be_read(database: Path, start: Callable[..., AuditWriter], decision: Callable) -> None:
    """After the proxy has gone, with no WAL left."""
    writer = start()
    writer.offer(decision(1))
    assert writer.close(5)
    with AuditReader(database) as reader:
        assert [row.id for row in reader.newest()] == ["id-000001"]


@pytest.mark.parametrize("name", ["a?b.db", "a#b.db", "a%20b.db", "a b.db", "ä.db"])
def test_any_file_name_can_be_used(
    name: str, tmp_path: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """A path is a path, also where SQLite would read a URI into it."""
    writer = start(tmp_path / name)
    writer.offer(decision(1))
    assert writer.flush(5)
    assert (tmp_path / name).exists()
    with AuditReader(tmp_path / name) as reader:
        assert len(reader.newest()) == 1


def test_a_missing_database_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """And it is not made by looking for it."""
    with pytest.raises(AuditError, match="no audit database"):
        AuditReader(tmp_path / "audit.db")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_an_error(tmp_path: Path) -> None:
    """Not a traceback."""
    path = tmp_path / "audit.db"
    path.write_bytes(b"rubbish " * 1000)
    with pytest.raises(AuditError, match="damaged"):
        AuditReader(path)
    path.write_bytes(b"")
    with pytest.raises(AuditError, match="empty"):
        AuditReader(path)


PLANS = [reader_module._NEWEST, reader_module._ARRIVED, reader_module._ENDED]


@pytest.mark.parametrize("sql", PLANS)
def test_rows_are_found_by_key(sql: str, database: Path, start: Callable[..., AuditWriter]) -> None:
    """No question scans a table without bounds, and none sorts what it found on the way to the newest rows."""
    start()
    condition, parameters = where(_all(verdict="deny", host="*.example.com", since="1970-01-01T00:00:05Z"))
    sql = sql.format(where=condition)
    with closing(sqlite3.connect(database)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?")).fetchall()
    steps = [step[3] for step in plan]
    assert len(parameters) == 3
    assert not [step for step in steps if step.startswith("SCAN")], steps
    if sql.endswith("LIMIT ?"):
        assert not [step for step in steps if "TEMP B-TREE" in step], steps


@given(
    st.lists(st.integers(-250_000_000, 250_000_000), min_size=1, max_size=60),
    st.integers(0, 60),
    st.integers(1, 7200),
)
def test_since_by_bisection_gives_what_a_scan_gives(jitter: list[int], place: int, spacing: int) -> None:
    """As long as clocks are set back by less than five minutes, no row is missed."""
    times = [NOW_US + number * spacing * 1_000_000 + offset // 2 for number, offset in enumerate(jitter)]
    since = NOW_US + place * spacing * 1_000_000
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE decisions (seq INTEGER PRIMARY KEY, time_us INTEGER)")
        connection.executemany("INSERT INTO decisions (time_us) VALUES (?)", [(time,) for time in times])
        first = reader_module._first_since(connection, since, len(times))
    assert [time for time in times[max(0, first - 1) :] if time >= since] == [time for time in times if time >= since]


def test_since_is_a_duration_or_a_time() -> None:
    """Durations count back from now; times are RFC 3339."""
    assert parse_since("10m", NOW_US) == NOW_US - 600_000_000
    assert parse_since("2h", NOW_US) == NOW_US - 7_200_000_000
    assert parse_since("1d", NOW_US) == NOW_US - DAY_US
    assert parse_since("1970-01-01T00:00:01.5Z", NOW_US) == 1_500_000
    assert parse_since("1970-01-01T02:00:01+02:00", NOW_US) == 1_000_000
    local = datetime(2026, 11, 20, 10, 0, 0).astimezone()
    assert parse_since("2026-11-20T10:00:00", NOW_US) == int(local.timestamp()) * 1_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-5m", "1y", "5 m", "\x1b[0m", "0001-01-01T00:00:00+23:59"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With the ways to write one."""
    with pytest.raises(ValueError, match="10m"):
        parse_since(text, NOW_US)


@given(st.datetimes().filter(lambda moment: 1970 < moment.year < 2200), st.integers(-14, 14))
def test_any_rfc_3339_time_is_exact(moment: datetime, hours: int) -> None:
    """To the microsecond, in any offset."""
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    exact = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_since(aware.isoformat(), NOW_US) == exact

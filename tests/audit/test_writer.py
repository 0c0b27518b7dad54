"""The writer: what is accepted is recorded, once, in time; what is refused is counted."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from dataclasses import fields
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from egress.audit import AuditWriter, DecisionEvent, OutcomeEvent
from egress.audit.database import open_for_writing
from egress.audit.row import COLUMNS, DECISIONS, OUTCOMES, decision_row, outcome_row, packed
from egress.audit.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from egress.audit.row import Row


def test_a_decision_and_its_outcome_are_one_request(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable, rows: Callable
) -> None:
    """The view joins them by id, with every value as it was offered."""
    writer = start()
    assert writer.offer(decision(1, secrets=("github", "naïve"), address="203.0.113.7"))
    assert writer.offer(outcome(1, bytes_up=3, bytes_down=4, duration_us=5, first_byte_us=6, error="upstream-tls"))
    assert writer.flush(5)
    (row,) = rows(
        database,
        "SELECT state, host, status, bytes_up, bytes_down, duration_us, first_byte_us, secrets, address, error "
        "FROM requests",
    )
    assert row == ("done", "api.example.com", 200, 3, 4, 5, 6, '["github", "naïve"]', "203.0.113.7", "upstream-tls")


def test_an_allowed_decision_without_outcome_is_open(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """A long tunnel, or one that a kill cut, is shown as open; a refusal opens nothing."""
    writer = start()
    for number, verdict in enumerate(("allow", "deny", "ask")):
        writer.offer(decision(number, verdict=verdict))
    assert writer.flush(5)
    assert rows(database, "SELECT verdict, state FROM requests") == [
        ("allow", "open"),
        ("deny", "done"),
        ("ask", "done"),
    ]


def test_an_event_is_recorded_within_the_flush_interval(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """Nobody has to ask for a flush."""
    writer = start(flush_interval=0.1)
    writer.offer(decision(1))
    time.sleep(0.6)
    assert rows(database, "SELECT count(*) FROM decisions") == [(1,)]


def test_offers_of_many_threads_are_all_recorded_once(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable, rows: Callable
) -> None:
    """`offer` is safe from any thread."""
    writer = start()

    def produce(first: int) -> None:
        for number in range(first, first + 500):
            assert writer.offer(decision(number))
            assert writer.offer(outcome(number))

    threads = [threading.Thread(target=produce, args=(first,)) for first in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close(10)
    assert rows(database, "SELECT count(*), count(DISTINCT id) FROM requests WHERE state = 'done'") == [(4000, 4000)]


def test_the_same_event_twice_is_recorded_once(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """Ids are unique; repeating an event changes nothing and leaves no trace."""
    writer = start()
    for _ in range(3):
        writer.offer(decision(1))
        assert writer.flush(5)
    assert rows(database, "SELECT count(*) FROM decisions") == [(1,)]
    assert rows(database, "SELECT count(*) FROM events") == [(0,)]


def test_another_event_under_a_taken_id_keeps_the_first_and_says_so(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """A fault in making ids does not go unseen."""
    writer = start()
    writer.offer(decision(1, host="first.test"))
    writer.offer(decision(1, host="second.test"))
    assert writer.flush(5)
    assert writer.close(5)
    assert rows(database, "SELECT host FROM decisions") == [("first.test",)]
    ((kind, detail),) = rows(database, "SELECT kind, detail FROM events")
    assert kind == "duplicate-id"
    assert "id-000001" in detail


def test_a_full_queue_refuses_and_never_waits(start: Callable[..., AuditWriter], decision: Callable) -> None:
    """Beyond its capacity `offer` says no at once."""
    writer = start(flush_interval=30, capacity=10)
    begun = time.monotonic()
    assert [writer.offer(decision(number)) for number in range(12)] == [True] * 10 + [False] * 2
    assert time.monotonic() - begun < 8


def test_outcomes_have_room_when_decisions_have_none(
    start: Callable[..., AuditWriter], decision: Callable, outcome: Callable
) -> None:
    """What was decided can end on record while new decisions are refused."""
    writer = start(flush_interval=30, capacity=10)
    for number in range(10):
        assert writer.offer(decision(number))
    assert not writer.offer(decision(10))
    assert [writer.offer(outcome(number)) for number in range(21)] == [True] * 20 + [False]


def test_what_was_refused_leaves_one_row_about_the_gap(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable, rows: Callable
) -> None:
    """The gap in the record is itself on record, with its size."""
    writer = start(flush_interval=30, capacity=10)
    for number in range(15):
        writer.offer(decision(number))
    for number in range(22):
        writer.offer(outcome(number))
    assert writer.flush(5)
    assert writer.close(5)
    ((kind, detail),) = rows(database, "SELECT kind, detail FROM events")
    assert kind == "gap"
    assert detail.endswith(": 5 decisions, 2 outcomes")


def test_notes_are_events(database: Path, start: Callable[..., AuditWriter], rows: Callable) -> None:
    """Start, stop and reload of the proxy stand in `events`, in order."""
    writer = start()
    assert writer.note("start", "egress 1.0")
    assert writer.note("reload", "policy \x1b[31m")
    assert writer.close(5)
    assert rows(database, "SELECT kind, detail FROM events ORDER BY seq") == [
        ("start", "egress 1.0"),
        ("reload", "policy \\x1b[31m"),
    ]


def test_close_records_what_is_pending_and_then_refuses(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """Nothing accepted is lost at the end, and nothing is accepted after it."""
    writer = start(flush_interval=30)
    for number in range(5000):
        assert writer.offer(decision(number))
    assert writer.close(10)
    assert not writer.offer(decision(9999))
    assert not writer.healthy
    assert rows(database, "SELECT count(*) FROM decisions") == [(5000,)]
    assert not database.with_name("audit.db-wal").exists()


def test_a_writer_that_was_not_started_refuses(database: Path, decision: Callable) -> None:
    """No event is taken that no thread will write."""
    writer = AuditWriter(database)
    assert not writer.offer(decision(1))
    assert not writer.healthy
    assert writer.problem
    assert writer.close(1)


def test_an_exception_in_the_writer_denies_rather_than_goes_silent(
    *,
    start: Callable[..., AuditWriter],
    decision: Callable,
    until: Callable,
    rows: Callable,
    monkeypatch: pytest.MonkeyPatch,
    database: Path,
) -> None:
    """A fault of our own makes the writer unhealthy, keeps the batch, and is got over."""
    writer = start()

    def broken(*_: object) -> None:
        raise RuntimeError("\x1b[31mtext of a fault")

    with monkeypatch.context() as patched:
        patched.setattr("egress.audit.store.write_batch", broken)
        assert writer.offer(decision(1))
        until(lambda: not writer.healthy)
        assert "RuntimeError" in (writer.problem or "")
        assert "\x1b" not in (writer.problem or "")
        assert not writer.offer(decision(2))
    until(lambda: writer.healthy)
    assert writer.flush(5)
    assert rows(database, "SELECT id FROM decisions") == [("id-000001",)]


def test_a_commit_that_failed_but_was_applied_is_not_recorded_twice(
    *,
    start: Callable[..., AuditWriter],
    decision: Callable,
    outcome: Callable,
    rows: Callable,
    monkeypatch: pytest.MonkeyPatch,
    database: Path,
) -> None:
    """The batch is tried again, and found there."""
    from egress.audit import store

    real, failures = store.write_batch, []

    def applied_but_failed(*given: object) -> object:
        result = real(*given)  # type: ignore[arg-type]
        if not failures:
            failures.append(1)
            raise OSError(5, "Input/output error")
        return result

    monkeypatch.setattr("egress.audit.store.write_batch", applied_but_failed)
    writer = start()
    assert writer.offer(decision(1))
    assert writer.offer(outcome(1))
    assert writer.flush(10)
    assert writer.close(5)
    assert failures
    assert rows(database, "SELECT count(*) FROM decisions") == [(1,)]
    assert rows(database, "SELECT count(*) FROM outcomes") == [(1,)]


def test_a_batch_written_again_is_no_error_even_without_the_triggers(database: Path, decision: Callable) -> None:
    """The insert itself leaves a taken id alone."""
    from egress.audit.batch import Batch, write_batch

    connection = open_for_writing(database)
    try:
        connection.execute("DROP TRIGGER decisions_no_replace")
        for _ in range(2):
            assert write_batch(connection, Batch.of([(DECISIONS, decision_row(decision(1)))]), 0) == ()
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (1,)
    finally:
        connection.close()


def test_files_are_readable_by_their_owner_only(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """Whatever the umask; the folder that is made for them too."""
    before = os.umask(0)
    try:
        writer = start()
        writer.offer(decision(1))
        assert writer.flush(5)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in database.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"audit.db": 0o600, "audit.db-wal": 0o600, "audit.db-shm": 0o600}
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


def test_every_column_has_its_value_in_its_place() -> None:
    """A row's values stand in the order of the columns; each event field is one column."""
    decided = DecisionEvent(
        **{
            field.name: (("s",) if field.name == "secrets" else 7 if field.name in _NUMBERS else field.name)
            for field in fields(DecisionEvent)
        }
    )
    expected = [7 if name in _NUMBERS else '["s"]' if name == "secrets" else name for name in COLUMNS[DECISIONS]]
    assert list(decision_row(decided)) == expected
    ended = OutcomeEvent(**{field.name: 7 if field.name in _NUMBERS else field.name for field in fields(OutcomeEvent)})
    assert list(outcome_row(ended)) == [7 if name in _NUMBERS else name for name in COLUMNS[OUTCOMES]]


_NUMBERS = {"time_us", "line", "port", "status", "bytes_up", "bytes_down", "duration_us", "first_byte_us", "count"}
_TEXT = st.text(st.characters(), max_size=30)
_HOSTILE = st.builds(
    DecisionEvent,
    id=st.uuids().map(str),
    time_us=st.integers(),
    sandbox=_TEXT,
    client=_TEXT,
    verdict=_TEXT,
    reason=_TEXT,
    host=_TEXT,
    port=st.none() | st.integers(),
    path=st.none() | st.text(st.characters(), max_size=3000),
    secrets=st.lists(_TEXT, max_size=3).map(tuple),
)


@given(st.lists(_HOSTILE, min_size=1, max_size=5))
@settings(max_examples=40)
def test_no_event_makes_an_insert_fail(tmp_path_factory: pytest.TempPathFactory, events: list[DecisionEvent]) -> None:
    """Any text and any integer fits, and comes back as it was hashed; secrets stay a JSON list."""
    from egress.audit.batch import Batch, write_batch

    path = tmp_path_factory.mktemp("hostile") / "audit.db"
    connection = open_for_writing(path)
    try:
        batch = Batch.of((DECISIONS, decision_row(event)) for event in events)
        assert write_batch(connection, batch, 0) == ()
        found = connection.execute("SELECT secrets FROM requests ORDER BY seq").fetchall()
        assert verify(connection, path).problems == []
    finally:
        connection.close()
    assert [len(json.loads(secrets)) for (secrets,) in found] == [len(event.secrets) for event in events]


def accepted(*events: DecisionEvent) -> list[tuple[str, Row, bytes]]:
    """Decisions as another process hands them over."""
    rows = map(decision_row, events)
    return [(DECISIONS, row, packed(DECISIONS, row)) for row in rows]


def test_rows_accepted_elsewhere_are_taken_whatever_is_wrong(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable, until: Callable
) -> None:
    """Their traffic has passed: no limit and no problem of the database turns them away, and `recorded` counts them."""
    writer = start(capacity=1)
    blocker = open_for_writing(database)
    blocker.execute("BEGIN IMMEDIATE")
    assert writer.offer_rows(accepted(decision(0))) == 1
    until(lambda: not writer.healthy)
    number = writer.offer_rows(accepted(*map(decision, (1, 2, 3))))
    assert (number, writer.recorded, writer.offer(decision(9))) == (4, 0, False)
    blocker.execute("ROLLBACK")
    blocker.close()
    until(lambda: writer.recorded >= number)
    assert rows(database, "SELECT id FROM decisions ORDER BY seq") == [(f"id-{count:06d}",) for count in range(4)]
    assert writer.close(5)
    assert writer.offer_rows(accepted(decision(4))) == 0


def test_rows_offered_twice_are_recorded_once(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """A process that does not know whether its batch arrived sends it again; no row and no note comes of it."""
    writer = start()
    batch = accepted(*map(decision, range(3)))
    for _ in range(2):
        writer.offer_rows(batch)
        assert writer.flush(5)
    assert rows(database, "SELECT count(*) FROM decisions") == [(3,)]
    assert rows(database, "SELECT kind FROM events") == []


def test_what_another_process_refused_is_part_of_the_gap(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """One row in `events`, with the counts and the earliest time."""
    writer = start()
    writer.count_refused({DECISIONS: 3, OUTCOMES: 1}, 1_790_000_000_000_000)
    writer.offer(decision(1))
    assert writer.flush(5)
    assert writer.close(5)
    assert rows(database, "SELECT kind, detail FROM events") == [
        ("gap", "refused since 2026-09-21T14:13:20.000+00:00: 3 decisions, 1 outcomes")
    ]


def test_every_try_to_record_is_told(database: Path, decision: Callable, until: Callable) -> None:
    """Whoever waits for the audit learns at once that it fails, and that it works again."""
    seen: list[bool] = []
    writer = AuditWriter(database, flush_interval=0.02, on_change=lambda: seen.append(writer.healthy))
    writer.start()
    writer.offer(decision(0))
    until(lambda: seen == [True])
    blocker = open_for_writing(database)
    blocker.execute("BEGIN IMMEDIATE")
    writer.offer(decision(1))
    until(lambda: False in seen)
    blocker.execute("ROLLBACK")
    blocker.close()
    until(lambda: seen[-1])
    assert writer.close(5)

"""The index of texts: what is found with it is what a scan finds, and nothing is recorded later because of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress.audit import (
    AuditReader,
    DecisionEvent,
    Filter,
    OutcomeEvent,
    Retention,
    Signer,
    parse_filter,
    schema,
    search,
)
from egress.audit.batch import Batch, write_batch
from egress.audit.database import open_for_writing
from egress.audit.filters import Term
from egress.audit.retention import drop_some
from egress.audit.row import DECISIONS, OUTCOMES, decision_row, outcome_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

WORDS = ("api.example.com", "example.com", "Rare.test", "/v1/items", "/Needle*[x]?", "host-not-allowed", "limit-bytes")
TEXT = st.sampled_from(WORDS) | st.text('aAbB.*?[]"\\é\u0130\u212aİk-', max_size=8)
DECISION = st.fixed_dictionaries(
    {
        **dict.fromkeys(("host", "path", "rule", "detail", "reason", "sandbox", "rewritten"), TEXT),
        "verdict": st.sampled_from(["allow", "deny", "ask"]),
        "secrets": st.lists(TEXT, max_size=2).map(tuple),
    }
)
ROWS = st.lists(st.tuples(DECISION, st.none() | TEXT, st.booleans()), max_size=40)
FIELD = st.sampled_from(["host", "path", "rule", "reason", "sandbox", "rewritten", "secret", "id", None])
PATTERN = st.builds(
    lambda word, start, end: f"{start}{word}{end}", TEXT, st.sampled_from(["", "*", "."]), st.sampled_from(["", "*"])
)
TERM = st.builds(
    Term, FIELD, st.lists(PATTERN.filter(bool), min_size=1, max_size=2).map(tuple), st.just("="), st.booleans()
) | st.builds(Term, st.just("verdict"), st.lists(st.sampled_from(["allow", "deny"]), min_size=1).map(tuple))
FILTER = st.lists(TERM, min_size=1, max_size=3).map(lambda terms: Filter(tuple(terms)))


def record(connection: sqlite3.Connection, rows: list[tuple[dict[str, Any], str | None, bool]]) -> None:
    """Record the rows, in batches of some."""
    entries = []
    for number, (told, error, ended) in enumerate(rows):
        decided = DecisionEvent(id=f"id-{number:06d}", time_us=number, client="10.0.0.5:1", **told)
        entries.append((DECISIONS, decision_row(decided)))
        if ended:
            entries.append((OUTCOMES, outcome_row(OutcomeEvent(id=decided.id, time_us=number, error=error))))
    if entries:
        write_batch(connection, Batch.of(entries), 1)


def found(path: Path, wanted: Filter, limit: int, monkeypatch: pytest.MonkeyPatch, *, scan: bool) -> list[str]:
    """Give the ids that a filter finds, with or without the index."""
    with monkeypatch.context() as patched, AuditReader(path) as reader:
        if scan:
            patched.setattr(search, "match_of", lambda _: None)
        return [row.id for row in reader.newest(wanted, limit=limit)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(rows=ROWS, wanted=FILTER, slices=st.integers(0, 4), limit=st.integers(0, 50))
def test_what_is_found_is_what_a_scan_finds(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    **drawn: Any,
) -> None:
    """Whatever is asked for, and however much of the record is in the index."""
    monkeypatch.setattr(search, "BLOCK", 4)
    monkeypatch.setattr(search, "_SLICE", 2)
    path = tmp_path_factory.mktemp("record") / "audit.db"
    with closing(open_for_writing(path)) as connection:
        record(connection, drawn["rows"])
        for _ in range(drawn["slices"]):
            search.index_some(connection)
    wanted, limit = drawn["wanted"], drawn["limit"]
    scanned = found(path, wanted, limit, monkeypatch, scan=True)
    assert found(path, wanted, limit, monkeypatch, scan=False) == scanned


ASKED = [
    ("host:rare.example.net", True),
    ("host:.example.net", True),
    ("host:*example.net*", True),
    ("needle", True),
    ("rule:ab*cd", False),
    ("-needle", False),
    ("verdict:deny", False),
    ("host:rare.test,x", False),
    ("host:rare.test,xyz verdict:deny", True),
    ("", False),
]


@pytest.mark.parametrize(("text", "narrows"), ASKED)
def test_texts_of_three_letters_narrow_the_search(text: str, narrows: bool) -> None:  # noqa: FBT001 -- a column of a table
    """Others are scanned for, as is what must not be there."""
    assert (search.match_of(parse_filter(text, 0)) is not None) is narrows


def test_an_error_is_found_that_came_after_the_block_was_indexed(database: Path) -> None:
    """An outcome may come hours after its decision."""
    with closing(open_for_writing(database)) as connection:
        rows = [({"sandbox": "ci", "verdict": "allow", "reason": "rule-allow"}, None, False)] * 300
        record(connection, rows)
        assert search.index_some(connection) == 2
        late = outcome_row(OutcomeEvent(id="id-000007", time_us=1, error="upstream-tls: needle"))
        write_batch(connection, Batch.of([(OUTCOMES, late)]), 1)
    with AuditReader(database) as reader:
        for text in ("needle", "reason:upstream-tls"):
            assert [row.id for row in reader.newest(parse_filter(text, 0))] == ["id-000007"]


def test_a_host_with_a_dot_in_front_finds_the_name_itself(database: Path) -> None:
    """`.example.net` is `example.net` and all below it, also where no block has the dot."""
    with closing(open_for_writing(database)) as connection:
        told = {"sandbox": "ci", "verdict": "allow", "reason": "rule-allow", "host": "example.net"}
        record(connection, [(told, None, True)] * 130)
        assert search.index_some(connection) == 1
    with AuditReader(database) as reader:
        assert len(reader.newest(parse_filter("host:.example.net", 0), limit=500)) == 130


def test_the_index_narrows_what_is_read(database: Path) -> None:
    """One row of many is found in its own block alone."""
    with closing(open_for_writing(database)) as connection:
        told = {"sandbox": "ci", "verdict": "allow", "reason": "rule-allow", "host": "api.example.com"}
        rows = [(told | ({"host": "rare.test"} if number == 700 else {}), None, True) for number in range(2_000)]
        record(connection, rows)
        while search.index_some(connection):
            pass
        wanted = parse_filter("host:rare.test", 0)
        match = search.match_of(wanted)
        assert match is not None
        assert list(search.blocks_of(connection, wanted, match, 0)) == [(640, 768)]
        assert search.watermark(connection) == 1_920


def test_what_retention_drops_leaves_the_index(database: Path, tmp_path: Path) -> None:
    """Or the index would grow for ever; what stays is found as before."""
    signer = Signer.load_or_create(tmp_path)
    with closing(open_for_writing(database)) as connection:
        for first in range(0, 1_000, 100):
            told = {"sandbox": "ci", "verdict": "allow", "reason": "rule-allow", "host": f"h{first}.example.com"}
            entries = [
                DecisionEvent(id=f"id-{number:06d}", time_us=number, client="x", **told)
                for number in range(first, first + 100)
            ]
            write_batch(connection, Batch.of((DECISIONS, decision_row(entry)) for entry in entries), first)
        while search.index_some(connection):
            pass
        asked = "SELECT rowid FROM search WHERE search MATCH '\"exa\"' ORDER BY rowid"
        assert connection.execute(asked).fetchall() == [(block,) for block in range(7)]
        while drop_some(connection, Retention(rows=300), signer, 1_000):
            pass
        assert connection.execute(asked).fetchall() == [(5,), (6,)]
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    with AuditReader(database) as reader:
        assert len(reader.newest(parse_filter("host:h700.example.com", 0), limit=500)) == 100
        assert reader.newest(parse_filter("host:h100.example.com", 0)) == []


@pytest.mark.parametrize("harm", ["DELETE FROM search_data", "DROP TABLE search", "DROP TABLE searched"])
def test_a_damaged_index_keeps_nothing_from_being_dropped(database: Path, tmp_path: Path, harm: str) -> None:
    """Or the record would outgrow its bounds because of what only serves filters."""
    with closing(open_for_writing(database)) as connection:
        for number in range(300):
            told = {"sandbox": "ci", "verdict": "allow", "reason": "rule-allow"}
            entry = DecisionEvent(id=f"id-{number:06d}", time_us=number, client="x", **told)
            write_batch(connection, Batch.of([(DECISIONS, decision_row(entry))]), number)
        search.index_some(connection)
        connection.execute(harm)
        assert drop_some(connection, Retention(rows=100), Signer.load_or_create(tmp_path), 1_000) >= 200
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (100,)


def test_a_sqlite_without_trigrams_records_all_the_same(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The migration leaves the index out; filters scan."""
    add = schema.add_search

    class Lacking:
        def __init__(self, database: Any) -> None:
            self._database = database

        def execute(self, statement: str) -> object:
            return self._database.execute(statement.replace("trigram", "lacking"))

    steps = [step if step is not add else lambda found: add(Lacking(found)) for step in schema.MIGRATIONS]  # type: ignore[arg-type]
    monkeypatch.setattr(schema.migrate, "__defaults__", (tuple(steps),))
    with closing(open_for_writing(database)) as connection:
        told = {"sandbox": "ci", "verdict": "allow", "reason": "rule-allow", "host": "rare.test"}
        record(connection, [(told, None, True)] * 300)
        with pytest.raises(sqlite3.OperationalError):
            search.index_some(connection)
    with AuditReader(database) as reader:
        assert len(reader.newest(parse_filter("host:rare.test", 0), limit=500)) == 300


@pytest.mark.parametrize("harm", ["DELETE FROM search_data", "DROP TABLE search", "DROP TABLE searched"])
def test_an_index_that_cannot_be_read_is_done_without(database: Path, harm: str) -> None:
    """The rows are there all the same; the proxy goes on recording too."""
    with closing(open_for_writing(database)) as connection:
        told = {"sandbox": "ci", "verdict": "allow", "reason": "rule-allow", "host": "rare.test"}
        record(connection, [(told, None, True)] * 300)
        search.index_some(connection)
        connection.execute(harm)
    with AuditReader(database) as reader:
        assert len(reader.newest(parse_filter("host:rare.test", 0), limit=500)) == 300


def test_the_writer_brings_the_index_up_to_date_while_nothing_comes(
    start: Callable[..., AuditWriter],
    decision: Callable[..., Any],
    database: Path,
    rows: Callable[..., list[tuple[object, ...]]],
    until: Callable[[Callable[[], bool]], None],
) -> None:
    """After a burst, and after a start with a record of before."""
    writer = start()
    for number in range(1_000):
        assert writer.offer(replace(decision(number), host=f"h{number}.example.com"))
    assert writer.flush(10)
    writer.note("start", "something small")
    until(lambda: rows(database, "SELECT blocks FROM searched") == [(7,)])


def test_rows_that_wait_come_before_the_index(
    start: Callable[..., AuditWriter], decision: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that has much to do does not hold up what is to be recorded: it stops after a slice."""
    monkeypatch.setattr("egress.audit.store.index_some", lambda _: 1)
    writer = start()
    for number in range(20):
        assert writer.offer(decision(number))
        assert writer.flush(5)
    assert writer.close(5)

"""Pages of the audit: every row once, in order, from both ends, with any filter; bounded, and ended when asked."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import records

from egress.audit import AuditWriter, Filter, FilterError, PagedReader, parse_filter
from egress.audit.lines import json_line
from egress.audit.paging import LONGEST
from egress.audit.saved import read_with_saved, save_filter, saved_file, saved_filters
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from egress.audit import DecisionEvent, OutcomeEvent

COUNT = 5_000


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every seventh was denied, and every thousandth is of another sandbox."""
    from egress.audit import DecisionEvent

    path = tmp_path_factory.mktemp("paging") / "audit.db"
    writer = AuditWriter(path, flush_interval=0.02)
    writer.start()
    for number in range(1, COUNT + 1):
        verdict = "allow" if number % 7 else "deny"
        sandbox = "ci" if number % 1_000 else "rare"
        at = 60_000_000 * (number // 100)
        event = DecisionEvent(
            id=f"id-{number}", time_us=at, sandbox=sandbox, client="c", verdict=verdict, reason="r", host="h"
        )
        assert writer.offer(event)
    assert writer.flush(10)
    writer.close(10)
    return path


@pytest.fixture
def reader(record: Path) -> Iterator[PagedReader]:
    """A reader of these."""
    with PagedReader(record) as reader:
        yield reader


@pytest.mark.parametrize("text", ["", "verdict:deny", "sandbox:rare", "host:nowhere"])
@pytest.mark.parametrize("limit", [1, 70, 10_000])
def test_pages_backward_and_forward_are_the_same_rows_once_each(reader: PagedReader, text: str, limit: int) -> None:
    """As one question for all of them gives, whatever the size of a page."""
    wanted = parse_filter(text, 0)
    expected = [row.seq for row in reader.newest(wanted, limit=COUNT)]
    if limit == 1:
        expected = expected[:50]
    forward: list[int] = []
    reached, whole = 0, False
    while not whole and len(forward) < len(expected) + 1:
        page = reader.after(reached, wanted, limit=limit)
        forward += [row.seq for row in page.rows]
        reached, whole = page.reached - 1, page.whole
        if limit == 1 and len(forward) == len(expected):
            break
    assert forward == expected
    backward: list[int] = []
    reached, whole = (expected[-1] + 1 if expected else COUNT + 1), False
    while not whole:
        page = reader.before(reached, wanted, limit=limit)
        backward[:0] = [row.seq for row in page.rows]
        reached, whole = page.reached, page.whole
    assert backward == expected


def test_a_search_that_is_ended_says_how_far_it_came(reader: PagedReader) -> None:
    """And goes on from there without missing a row."""
    wanted = parse_filter("sandbox:rare", 0)
    page = reader.before(COUNT, wanted, limit=100, going=lambda _: False)
    assert not page.whole
    assert 0 < page.reached < COUNT
    rest = reader.before(page.reached, wanted, limit=100)
    assert [row.seq for row in (*rest.rows, *page.rows)] == [1_000, 2_000, 3_000, 4_000]


def test_since_ends_a_search_where_time_does(reader: PagedReader) -> None:
    """What is older is not read at all."""
    reached: list[int] = []
    wanted = parse_filter("sandbox:nobody", 0) & parse_filter("since:2m", 60_000_000 * 49)
    page = reader.before(COUNT + 1, wanted, limit=10, going=lambda seq: reached.append(seq) or True)  # type: ignore[func-returns-value]
    assert page.whole
    assert page.reached > COUNT - 1_500


def test_minutes_count_what_was_allowed_and_what_was_not(reader: PagedReader) -> None:
    """Of the keys that are asked for, and no others."""
    counts = reader.minutes(100, 300)
    assert counts == {1: (85, 14), 2: (86, 14), 3: (1, 0)}


def test_a_flood_of_denials_is_read_with_its_number(tmp_path: Path, decision: Callable[..., DecisionEvent]) -> None:
    """As a number, as everywhere, and each of its denials counts in its minute."""
    path = tmp_path / "audit.db"
    flood = {"verdict": "deny", "time_us": 60_000_000}
    records.record(path, decision(1, **flood), decision(2, count=4_000, **flood))
    with PagedReader(path) as reader:
        rows = reader.before(10, Filter(), limit=2).rows
        assert [json_line(row) for row in rows] == [json_line(row) for row in reader.newest()]
        assert [row.count for row in rows] == [1, 4_000]
        assert reader.minutes(0, 2) == {1: (0, 4_001)}


def test_long_and_broken_texts_are_bounded(tmp_path: Path, decision: Callable[..., DecisionEvent]) -> None:
    """What another program wrote: a megabyte is cut, bytes that are no UTF-8 are escaped."""
    path = tmp_path / "audit.db"
    writer = AuditWriter(path, flush_interval=0.02)
    writer.start()
    assert writer.offer(decision(1))
    assert writer.flush(5)
    writer.close(5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO decisions (id, time_us, sandbox, client, verdict, reason, host, path, secrets)"
            " VALUES ('x', 1, 's', 'c', 'deny', 'r', ?, CAST(X'2fff41' AS TEXT), '[]')",
            ("x" * 1_000_000,),
        )
    with PagedReader(path) as reader:
        (row,) = reader.before(10, Filter(), limit=1).rows
        assert row.host == "x" * LONGEST
        assert row.path == "/\\xffA"


def test_a_row_that_has_ended_is_read_again(
    tmp_path: Path, decision: Callable[..., DecisionEvent], outcome: Callable[..., OutcomeEvent]
) -> None:
    """By its key; keys that are not there give nothing."""
    path = tmp_path / "audit.db"
    writer = AuditWriter(path, flush_interval=0.02)
    writer.start()
    try:
        assert writer.offer(decision(1))
        assert writer.flush(5)
        with PagedReader(path) as reader:
            assert [row.state for row in reader.again([1, 99])] == ["open"]
            assert writer.offer(outcome(1))
            assert writer.flush(5)
            assert [row.state for row in reader.again([1, 99])] == ["done"]
            assert reader.ends().outcomes == 1
    finally:
        writer.close(5)


SAVED = {"denials": "verdict:deny", "mine": "@denials host:h", "loop": "@loop", "bad": "verdict:no"}


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("@denials", "verdict:deny"),
        ("@mine", "host:h verdict:deny"),
        ("path:/x @denials word", "path:/x word verdict:deny"),
        ('"@denials"', '"@denials"'),
        ("client:a@denials", "client:a@denials"),
    ],
)
def test_a_name_stands_for_what_was_saved_under_it(text: str, same: str) -> None:
    """As a word of its own, beside other conditions; not in quotes, not inside of a word."""
    assert read_with_saved(text, 0, SAVED) == parse_filter(same, 0)


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("GET @none", "@none", "no filter is saved as `none`"),
        ("@loop", "@loop", "names itself"),
        ("x @bad", "@bad", "the saved filter `bad`: `verdict` is"),
        ("-@denials", "-@denials", "cannot be turned around"),
        ("@denials verdict:no", "verdict:no", "`verdict` is allow, deny or ask"),
    ],
)
def test_what_is_wrong_with_a_name_is_told_at_its_place(text: str, place: str, told: str) -> None:
    """In the text that was written, also after the name."""
    with pytest.raises(FilterError) as caught:
        read_with_saved(text, 0, SAVED)
    assert told in str(caught.value)
    assert text[caught.value.start : caught.value.end] == place


def test_saved_filters_are_kept_for_the_user_alone(tmp_path: Path) -> None:
    """Mode 0600 in the configuration folder; another name adds to them, the same name takes the place."""
    file = saved_file({"XDG_CONFIG_HOME": str(tmp_path)})
    assert saved_filters(file) == {}
    save_filter(file, "a", "host:x")
    save_filter(file, "b", "host:y")
    save_filter(file, "a", "host:z")
    assert json.loads(file.read_text()) == {"a": "host:z", "b": "host:y"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"a": 1}', b"\xff"])
def test_a_file_that_is_none_of_ours_is_told_and_left(tmp_path: Path, data: bytes) -> None:
    """Nothing is written over it."""
    file = tmp_path / "filters.json"
    file.write_bytes(data)
    with pytest.raises(AuditError):
        save_filter(file, "a", "host:x")
    assert file.read_bytes() == data

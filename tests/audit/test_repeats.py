"""Repeats: rows next to each other that are alike are shown as one, and nothing of them is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import AuditReader, AuditRow, as_rows, repeats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

SECOND = 1_000_000


@pytest.fixture
def read(database: Path, start: Callable[..., AuditWriter], decision: Callable) -> Callable[..., list[AuditRow]]:
    """Rows as the reader gives them, from what each changes."""

    def made(*changes: dict[str, object]) -> list[AuditRow]:
        writer = start()
        for number, changed in enumerate(changes):
            assert writer.offer(decision(number, **({"verdict": "deny"} | changed)))
        assert writer.close(5)
        with AuditReader(database) as reader:
            return reader.newest()

    return made


def test_rows_that_are_alike_and_adjacent_are_one(read: Callable[..., list[AuditRow]]) -> None:
    """The last stands for all, with the number of decisions."""
    groups = list(repeats(read({}, {"count": 5}, {}, {"host": "other.test"}, {})))
    assert [(group.rows, group.count, group.row.host) for group in groups] == [
        (3, 7, "api.example.com"),
        (1, 1, "other.test"),
        (1, 1, "api.example.com"),
    ]
    assert groups[0].first_us < groups[0].row.time_us
    assert [row.count for row in as_rows(groups)] == [7, 1, 1]


@pytest.mark.parametrize(
    "changed",
    [
        *({"sandbox": "other"}, {"verdict": "ask"}, {"method": "PUT"}, {"path": "/v2"}, {"port": 8443}),
        *({"rule": "r"}, {"file": "f"}, {"line": 2}, {"reason": "rule-deny"}, {"secrets": ("github",)}),
    ],
)
def test_whatever_differs_in_what_is_shown_is_another_row(
    changed: dict[str, object], read: Callable[..., list[AuditRow]]
) -> None:
    """Each column of what is alike counts."""
    assert [group.rows for group in repeats(read({}, changed))] == [1, 1]


def test_another_answer_is_another_row(read: Callable[..., list[AuditRow]]) -> None:
    """The one upload that went through is not hidden among those that failed."""
    rows = [replace(row, status=status) for row, status in zip(read({}, {}, {}), (500, 200, 500), strict=True)]
    assert [group.row.status for group in repeats(rows)] == [500, 200, 500]


def test_what_came_much_later_is_another_row(read: Callable[..., list[AuditRow]]) -> None:
    """The window runs from one row to the next."""
    first = 1_790_000_000_000_000
    rows = read(*({"time_us": first + seconds * SECOND} for seconds in (0, 50, 100, 161)))
    assert [group.rows for group in repeats(rows)] == [3, 1]
    assert [group.rows for group in repeats(rows, window_seconds=10)] == [1, 1, 1, 1]


def test_what_is_open_repeats_nothing(read: Callable[..., list[AuditRow]]) -> None:
    """It comes again when it has ended, and would be counted twice."""
    assert [group.rows for group in repeats(read({"verdict": "allow"}, {"verdict": "allow"}))] == [1, 1]


def _row(number: int, host: str, gap: int, count: int) -> AuditRow:
    return AuditRow(
        *(number, f"id-{number}", number * gap * SECOND, "done", "a", "c", "deny", "r", None, None, None, None),
        *(None, "GET", "https", host, 443, "/", None, None, None, None, None, None, None, None, None, None),
        *((), None, None, None, None, count),
    )


@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from([0, 1, 60, 61]), st.integers(1, 9))))
def test_rows_and_counts_add_up(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is grouped, all rows are in a group, in their order."""
    rows = [_row(number, host, gap, count) for number, (host, gap, count) in enumerate(steps)]
    groups = list(repeats(rows))
    assert sum(group.rows for group in groups) == len(rows)
    assert sum(group.count for group in groups) == sum(row.count for row in rows)
    assert [group.row.seq for group in groups] == sorted(group.row.seq for group in groups)

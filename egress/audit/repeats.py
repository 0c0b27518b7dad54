"""Repeats: rows of the record that say the same within a short time, shown as one. What is recorded stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.audit.reader import AuditRow

WINDOW_SECONDS: Final = 60.0

# What repeats have in common.
alike = attrgetter(
    *("sandbox", "verdict", "method", "host", "port", "path", "file", "line", "rule", "reason"),
    *("status", "error", "secrets"),
)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Rows that are alike, next to each other. `row` is the last of them, `first_us` the time of the first.

    `rows`: how many there are; `count`: how many decisions they stand for. `bytes_up` and `bytes_down` are of all.
    """

    row: AuditRow
    first_us: int
    rows: int
    count: int
    bytes_up: int
    bytes_down: int


def repeats(rows: Iterable[AuditRow], window_seconds: float = WINDOW_SECONDS) -> Iterator[Repeat]:
    """Rows in the order of the record, those next to each other that are alike as one.

    A row that is alike, and came within the window after the one before it, joins it. An open row repeats nothing: it
    comes again when it has ended. Memory is that of one group.
    """
    group: Repeat | None = None
    for row in rows:
        joined = None if group is None else _joined(group, row, window_seconds)
        if joined is None and group is not None:
            yield group
        group = joined or Repeat(row, row.time_us, 1, row.count, row.bytes_up or 0, row.bytes_down or 0)
    if group is not None:
        yield group


def _joined(group: Repeat, row: AuditRow, window_seconds: float) -> Repeat | None:
    last = group.row
    near = abs(row.time_us - last.time_us) <= window_seconds * 1_000_000
    if not near or "open" in {row.state, last.state} or alike(row) != alike(last):
        return None
    return Repeat(
        row,
        group.first_us,
        group.rows + 1,
        group.count + row.count,
        group.bytes_up + (row.bytes_up or 0),
        group.bytes_down + (row.bytes_down or 0),
    )


def as_rows(groups: Iterable[Repeat]) -> Iterator[AuditRow]:
    """Each group as one row: its last, with the count and bytes of all."""
    for group in groups:
        row = group.row
        if group.rows == 1:
            yield row
        else:
            yield replace(row, count=group.count, bytes_up=group.bytes_up, bytes_down=group.bytes_down)

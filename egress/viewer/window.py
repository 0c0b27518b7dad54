"""The rows that are held around what the screen shows: a bounded run of the record, grown at either end by pages.

Pure: pages come from elsewhere. `low` and `high` are the keys between which everything that meets the filter is held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.audit import AuditRow, Page

MOST_LINES: Final = 2_000


@dataclass(slots=True)
class Line:
    """What one line of the screen shows: a row, and how many decisions (`count`) it stands for, from `first` on."""

    row: AuditRow
    count: int = 1
    first: int = 0

    def __post_init__(self) -> None:
        self.first = self.first or self.row.seq


@dataclass(slots=True)
class Window:
    """Lines in order, the oldest first. `oldest`, `newest`: nothing of the record is beyond that end.

    `turn` counts the times that it was filled anew: what was asked for before that no longer fits.
    """

    lines: list[Line] = field(default_factory=list)
    low: int = 0
    high: int = 0
    oldest: bool = False
    newest: bool = False
    grouped: bool = False
    turn: int = 0

    def fill(self, older: Page, newer: Page | None = None, *, high: int = 0) -> None:
        """Hold these pages and nothing else; `newer` begins where `older` ends, else nothing is newer than `high`."""
        rows = [*older.rows, *(newer.rows if newer else ())]
        self.lines = []
        _join(self.lines, rows, grouped=self.grouped)
        self.low, self.oldest = older.reached, older.whole
        self.high = newer.reached - 1 if newer else high
        self.newest = newer.whole if newer else True
        self.turn += 1

    def append(self, page: Page) -> int:
        """Hold a page that begins after `high`; gives how many lines were dropped at the other end."""
        _join(self.lines, page.rows, grouped=self.grouped)
        self.high, self.newest = max(self.high, page.reached - 1), page.whole
        dropped = max(0, len(self.lines) - MOST_LINES)
        if dropped:
            del self.lines[:dropped]
            self.low, self.oldest = self.lines[0].first, False
        return dropped

    def prepend(self, page: Page) -> int:
        """Hold a page that ends before `low`; gives how many lines now stand above what was first."""
        before = len(self.lines)
        lines: list[Line] = []
        _join(lines, page.rows, grouped=self.grouped)
        if lines and self.lines and self.grouped and alike(lines[-1].row, self.lines[0].row):
            self.lines[0] = _both(lines.pop(), self.lines[0])
        self.lines[:0] = lines
        self.low, self.oldest = page.reached, page.whole
        added = len(self.lines) - before
        if len(self.lines) > MOST_LINES:
            del self.lines[MOST_LINES:]
            self.high, self.newest = self.lines[-1].row.seq, False
        return added

    def update(self, rows: Iterable[AuditRow]) -> None:
        """Show these rows as they are now."""
        now = {row.seq: row for row in rows}
        for line in self.lines:
            line.row = now.get(line.row.seq, line.row)

    def open_keys(self) -> list[int]:
        """The newest rows that have not ended."""
        return [line.row.seq for line in reversed(self.lines) if line.row.state == "open"][:200]

    def place_of(self, seq: int) -> int:
        """The line that shows this key, or the next one below it; the last if there is none."""
        for index, line in enumerate(self.lines):
            if line.row.seq >= seq:
                return index
        return max(0, len(self.lines) - 1)


def alike(row: AuditRow, other: AuditRow) -> bool:
    """Whether two rows are repeats of each other: the same was asked, by the same, and decided alike."""
    return _likeness(row) == _likeness(other)


def _likeness(row: AuditRow) -> tuple[object, ...]:
    asked = (row.sandbox, row.method, row.host, row.port, row.path)
    return (*asked, row.verdict, row.reason, row.file, row.line, row.status)


def _join(lines: list[Line], rows: Sequence[AuditRow], *, grouped: bool) -> None:
    for row in rows:
        # A row may stand for a flood of denials, or for repeated questions.
        line = Line(row, row.count)
        if grouped and lines and alike(lines[-1].row, row):
            lines[-1] = _both(lines[-1], line)
        else:
            lines.append(line)


def _both(older: Line, newer: Line) -> Line:
    return Line(newer.row, older.count + newer.count, older.first)

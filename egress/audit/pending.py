"""What was accepted and is not yet in the database: a bounded queue that never makes its caller wait.

Decisions, outcomes and notes share one order, so that no outcome is written before its decision, but each kind has
its own limit. Outcomes may fill twice the decisions' limit: what has been decided must be able to end on record,
even while new decisions are refused. Not thread-safe: the writer's lock guards it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from egress.audit.batch import Batch
from egress.audit.row import DECISIONS, EVENTS, OUTCOMES, packed

if TYPE_CHECKING:
    from egress.audit.row import Row

_NOTES = 1000
_OUTCOMES_PER_DECISION = 2


class Pending:
    """The queue. `accepted` and `recorded` count every row that came in and every row that is done with."""

    __slots__ = ("_counts", "_entries", "_limits", "_refused", "accepted", "recorded")

    def __init__(self, capacity: int) -> None:
        self._entries: deque[tuple[str, Row, bytes]] = deque()
        self._limits = {DECISIONS: capacity, OUTCOMES: capacity * _OUTCOMES_PER_DECISION, EVENTS: _NOTES}
        self._counts = dict.fromkeys(self._limits, 0)
        self._refused = dict.fromkeys(self._limits, 0)
        self.accepted = 0
        self.recorded = 0

    def __len__(self) -> int:
        """Rows that wait; those of the batch in hand are not among them."""
        return len(self._entries)

    def add(self, table: str, row: Row) -> bool:
        """Queue the row; False, and counted as refused, if its kind has reached its limit."""
        if self._counts[table] >= self._limits[table]:
            return self.refuse(table)
        self.take_over(table, row, packed(table, row))
        return True

    def take_over(self, table: str, row: Row, data: bytes) -> None:
        """Queue a row that was accepted elsewhere, within limits that hold there, and packed."""
        self._counts[table] += 1
        self.accepted += 1
        self._entries.append((table, row, data))

    def refuse(self, table: str, count: int = 1) -> bool:
        """Count rows that are turned away. Always False."""
        self._refused[table] += count
        return False

    def take(self, limit: int) -> Batch:
        """The oldest rows. They count against the limits until `done` is called with them."""
        return Batch.of_packed(self._entries.popleft() for _ in range(min(limit, len(self._entries))))

    def done(self, batch: Batch) -> None:
        """The batch is in the database."""
        for table, rows in batch.rows.items():
            self._counts[table] -= len(rows)
        self.recorded += len(batch)

    def has_room(self) -> bool:
        """Whether the pressure is off: no kind has more than half of what it may have."""
        return all(self._counts[table] * 2 <= limit for table, limit in self._limits.items())

    def take_refused(self) -> dict[str, int]:
        """How many rows of each kind were refused since the last call."""
        refused = {table: count for table, count in self._refused.items() if count}
        self._refused = dict.fromkeys(self._limits, 0)
        return refused

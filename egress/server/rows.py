"""The audit of a process that judges: rows on their way to the hub, each kept until the hub has recorded it.

1. `offer` never waits and never raises; False means that the event is not and will not be recorded, so the traffic
   it describes must not pass. Decisions that wait are limited, outcomes to twice as many: what has been decided must
   be able to end on record.
2. While the hub is gone, hangs, or cannot write, decisions are refused at once and outcomes of accepted ones are kept.
3. What the hub has not said to be recorded is sent again to the next hub. The same row twice is one in the database.

INVARIANT every-decision-recorded: a row leaves this process's memory only when it is committed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.audit import DecisionEvent, NoteEvent
from egress.audit.commits import Commits, in_time
from egress.audit.row import DECISIONS, EVENTS, OUTCOMES, decision_row, note_row, outcome_row, packed
from egress.server.channel import Word, encode

if TYPE_CHECKING:
    from egress.audit.event import AuditEvent
    from egress.server.channel import Line

# A batch goes out this many seconds after its first row, or when it has this many bytes.
_DELAY_SECONDS: Final = 0.004
_FULL: Final = 24 * 1024
# One row at most: a batch is not full before its last row, and still has to be one message.
# All columns at their longest, of four bytes each character, fit.
_LARGEST_ROW: Final = 68 * 1024
_OUTCOMES_PER_DECISION: Final = 2
_NOTES: Final = 100
# Longer than this beyond the flush interval, and the hub hangs.
_HANGS_SECONDS: Final = 10.0

_NO_HUB: Final = "the process that records is not there"


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    message: bytes
    sealed: float
    counts: dict[str, int]


class RowSink:
    """Takes events on the event loop's thread. `window`: how many decisions may wait to be recorded."""

    def __init__(self, window: int, flush_interval: float) -> None:
        self._limits = {DECISIONS: window, OUTCOMES: window * _OUTCOMES_PER_DECISION, EVENTS: _NOTES}
        self._patience = flush_interval + _HANGS_SECONDS
        self._line: Line | None = None
        self._problem = _NO_HUB
        self._waiting = dict.fromkeys(self._limits, 0)
        self._rows: list[bytes] = []
        self._size = 0
        self._counts = dict.fromkeys(self._limits, 0)
        self._batches: deque[_Batch] = deque()
        self._number = 0
        self._recorded = 0
        self._commits = Commits()
        self._timer: asyncio.Handle | None = None
        self._hurried = False
        self._refused = dict.fromkeys(self._limits, 0)
        self._refused_since = 0

    def offer(self, event: AuditEvent) -> bool:
        """Take an event to be recorded. False: full, or nobody there who could record it, and so not recorded."""
        if isinstance(event, DecisionEvent):
            if self._problem or self._hangs():
                return self._refuse(DECISIONS)
            return self._add(DECISIONS, packed(DECISIONS, decision_row(event)))
        if isinstance(event, NoteEvent):
            row = note_row(event.id, event.time_us, event.kind, event.detail)
            return self._add(EVENTS, packed(EVENTS, row))
        return self._add(OUTCOMES, packed(OUTCOMES, outcome_row(event)))

    async def flush(self, seconds: float) -> bool:
        """Wait until everything taken so far is recorded; whether it is."""
        deadline = time.monotonic() + seconds
        self._send()
        while self._batches and time.monotonic() < deadline:  # noqa: ASYNC110 - many batches, no single event
            await asyncio.sleep(_DELAY_SECONDS)
        return not self._batches

    async def commit(self, seconds: float) -> bool:
        """Have everything taken so far on the disk before this returns; False: not in time.

        Whoever waits within one turn of the loop is waited for by one message, and by one commit of the hub.
        """
        if self._rows and not self._hurried:
            self._hurried = True
            asyncio.get_running_loop().call_soon(self._send)
        future = self._commits.expect(self._number + 1 if self._rows else self._number)
        self._commits.reached(self._recorded)
        return await in_time(future, seconds)

    @property
    def refused(self) -> int:
        """Rows that were turned away, of which the hub has not been told yet."""
        return sum(self._refused.values())

    @property
    def waiting(self) -> int:
        """Rows that are not recorded yet, as far as is known here."""
        return sum(self._waiting.values())

    # the hub's side

    def attached(self, line: Line) -> None:
        """There is a hub: send it what the last one had not recorded. It says itself whether it can write."""
        self._line = line
        for batch in self._batches:
            line.send(batch.message)

    def lost(self) -> None:
        """The hub is gone."""
        self._line = None
        self._problem = _NO_HUB

    def told(self, problem: str) -> None:
        """What keeps the hub from recording; empty: nothing does."""
        self._problem = problem
        self._tell_refused()

    def recorded(self, number: int) -> None:
        """The batches up to this one are in the database."""
        self._recorded = max(self._recorded, number)
        self._commits.reached(self._recorded)
        while self._batches and self._batches[0].number <= number:
            for table, count in self._batches.popleft().counts.items():
                self._waiting[table] -= count
        self._tell_refused()

    def _add(self, table: str, row: bytes) -> bool:
        if self._waiting[table] >= self._limits[table] or len(row) > _LARGEST_ROW:
            return self._refuse(table)
        self._waiting[table] += 1
        self._counts[table] += 1
        self._rows.append(row)
        self._size += len(row)
        if self._size >= _FULL:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY_SECONDS, self._send)
        return True

    def _send(self) -> None:
        self._hurried = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._rows:
            return
        self._number += 1
        message = encode(Word.ROWS, self._number, self._rows)
        self._batches.append(_Batch(self._number, message, time.monotonic(), self._counts))
        self._rows, self._size, self._counts = [], 0, dict.fromkeys(self._limits, 0)
        if self._line is not None:
            self._line.send(message)

    def _hangs(self) -> bool:
        return bool(self._batches) and time.monotonic() - self._batches[0].sealed > self._patience

    def _refuse(self, table: str) -> bool:
        self._refused_since = self._refused_since or time.time_ns() // 1000
        self._refused[table] += 1
        return False

    def _tell_refused(self) -> None:
        """Once rows are taken again, the audit gets to know how many were not."""
        if not self._refused_since or self._problem or self._line is None:
            return
        if all(self._waiting[table] * 2 <= limit for table, limit in self._limits.items()):
            self._line.say(Word.REFUSED, self._refused_since, self._refused)
            self._refused_since, self._refused = 0, dict.fromkeys(self._limits, 0)

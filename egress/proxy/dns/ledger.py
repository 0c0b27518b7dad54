"""The rows of questions: one for the first of a kind, and one with a count for its repeats within the minute.

1. Alike are questions of one sandbox for the same name and type, with the same verdict and reason, by one policy.
2. The first is recorded before it is answered, as everything; its repeats are counted, and recorded a minute later at
   most. Denials are besides held to the budget of all denials (`floods`).

INVARIANT nothing-dropped-silently: the counts of all rows add up to the questions; a row that is not taken is kept, and
offered again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from egress.audit import OutcomeEvent
from egress.gate.ids import new_decision_id
from egress.policy import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit import DecisionEvent
    from egress.gate.record import Recorder

logger = logging.getLogger(__name__)

_WINDOW_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0
_KINDS_AT_MOST: Final = 8_192

type _Kind = tuple[str, str | None, str | None, str, str, str | None]


@dataclass(slots=True)
class _Repeats:
    """What followed a row: how many, and what the newest ended with."""

    event: DecisionEvent
    until: float
    count: int = 0
    address: str | None = None
    error: str | None = None


@dataclass(slots=True)
class QuestionLedger:
    """The rows of one process. All methods run on the event loop's thread."""

    recorder: Recorder
    clock: Callable[[], float] = time.monotonic
    _kinds: OrderedDict[_Kind, _Repeats] = field(default_factory=OrderedDict)
    _timer: asyncio.TimerHandle | None = None

    def repeats(self, event: DecisionEvent, error: str | None = None) -> str:
        """Count a question that is a repeat. The id of the row that it repeats; empty: it is none."""
        self.flush()
        found = self._kinds.get(_kind(event))
        # INVARIANT fail-closed: what could not be recorded when its minute was over is no licence to go on.
        if found is None or found.until <= self.clock():
            return ""
        found.count += 1
        found.address, found.error = event.address, error
        return found.event.id

    async def record(self, event: DecisionEvent, error: str | None = None) -> bool:
        """Record the first of its kind, with what it ended with. False: it could not be, so nothing may come of it."""
        denied = event.verdict != Verdict.ALLOW
        if denied and self.recorder.counts(event):
            return True
        if not await self.recorder.record(event):
            return False
        if not denied:
            if not await self.recorder.committed(event):
                return False
            self._end(event, error)
        self._expect(event)
        return True

    def flush(self, *, whole: bool = False) -> bool:
        """Record the repeats whose minute is over, or all of them; False: some could not be, and are kept."""
        now = self.clock()
        while self._kinds:
            kind, oldest = next(iter(self._kinds.items()))
            if not whole and oldest.until > now:
                return True
            if oldest.count and not self._offer(oldest):
                return False
            self._kinds.pop(kind, None)
        return True

    def close(self) -> None:
        """Record what is left, for the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.flush(whole=True):
            logger.error("%d DNS questions could not be recorded", sum(each.count for each in self._kinds.values()))

    def _offer(self, repeats: _Repeats) -> bool:
        now = time.time_ns() // 1000
        row = replace(repeats.event, id=new_decision_id(), time_us=now, count=repeats.count, address=repeats.address)
        if not self.recorder.audit.offer(row):
            return False
        repeats.count = 0
        if row.verdict == Verdict.ALLOW:
            self._end(row, repeats.error)
        return True

    def _end(self, event: DecisionEvent, error: str | None) -> None:
        """Nothing stays open of a question: its outcome follows at once."""
        outcome = OutcomeEvent(id=event.id, time_us=time.time_ns() // 1000, duration_us=0, error=error)
        if not self.recorder.audit.offer(outcome):
            logger.error("the outcome of decision %s could not be recorded", event.id)

    def _expect(self, event: DecisionEvent) -> None:
        """Count what is alike from now on, as far as there is room; beyond, each has a row."""
        kind = _kind(event)
        if kind in self._kinds or len(self._kinds) >= _KINDS_AT_MOST:
            return
        self._kinds[kind] = _Repeats(replace(event), self.clock() + _WINDOW_SECONDS)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WINDOW_SECONDS, self._due)

    def _due(self) -> None:
        self._timer = None
        try:
            done = self.flush()
        except Exception:
            logger.exception("a count of DNS questions could not be recorded yet")
            done = False
        if self._kinds:
            left = next(iter(self._kinds.values())).until - self.clock()
            wait = max(left, _AGAIN_SECONDS) if done else _AGAIN_SECONDS
            self._timer = asyncio.get_running_loop().call_later(wait, self._due)


def _kind(event: DecisionEvent) -> _Kind:
    return event.sandbox, event.host, event.method, event.verdict, event.reason, event.policy_hash

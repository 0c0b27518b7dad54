"""Floods of denials: the first rows at once, what comes beyond a budget as rows with a count.

1. Alike are denials of one sandbox by one policy, with the same verdict, reason and host. `rows` of them a minute have
   a row each.
2. A sandbox has ten times as many rows a minute in all. Beyond either, denials are counted, and recorded a second later
   at most: one row for all that were alike, with what is known of the first of them.
3. Hosts are told apart up to a number; further ones share a row without a host, so that who asks for ever new names
   fills neither the disk nor our memory.

INVARIANT nothing-dropped-silently: the counts of all rows add up to the denials; a row that is not taken is kept, and
offered again a second later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit import DecisionEvent

logger = logging.getLogger(__name__)

_WINDOW_SECONDS: Final = 60.0
_FLUSH_SECONDS: Final = 1.0
_ROWS_IN_ALL: Final = 10
_HOSTS_AT_MOST: Final = 100

# Sandbox, verdict, reason, policy and host.
type _Alike = tuple[str, str, str, str | None, str | None]


@dataclass(slots=True)
class Floods:
    """The denials of one process. `rows`: how many alike ones a minute have a row each; `offer` takes a row.

    All methods run on the event loop's thread.
    """

    rows: int
    offer: Callable[[DecisionEvent], bool]
    clock: Callable[[], float] = time.monotonic
    _until: float = 0.0
    _alike: Counter[_Alike] = field(default_factory=Counter)
    _all: Counter[str] = field(default_factory=Counter)
    _counted: dict[_Alike, DecisionEvent] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None

    def counts(self, event: DecisionEvent) -> bool:
        """Whether a denial is over the budget: it was counted then, and gets no row of its own."""
        now = self.clock()
        if now >= self._until:
            self._until = now + _WINDOW_SECONDS
            self._alike.clear()
            self._all.clear()
        key = event.sandbox, event.verdict, event.reason, event.policy_hash, event.host
        # What is over the second budget is not looked up in the first: it must not grow with the hosts.
        over = self._all[event.sandbox] >= self.rows * _ROWS_IN_ALL or self._alike[key] >= self.rows
        if not over:
            self._all[event.sandbox] += 1
            self._alike[key] += 1
            return False
        self._count(key, event)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._due)
        return True

    def flush(self) -> bool:
        """Offer what was counted so far; False: some of it was not taken."""
        for key, event in tuple(self._counted.items()):
            if not self.offer(event):
                return False
            del self._counted[key]
        return True

    def close(self) -> None:
        """Offer what is left, for the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.flush():
            missing = sum(event.count for event in self._counted.values())
            logger.error("%d denials could not be recorded", missing)

    def _count(self, key: _Alike, event: DecisionEvent) -> None:
        counted = self._counted.get(key)
        if counted is None and len(self._counted) >= _HOSTS_AT_MOST and event.host is not None:
            key = (*key[:-1], None)
            counted = self._counted.get(key)
            event = _without_host(event)
        if counted is None:
            # A copy: who made the event may still have it.
            self._counted[key] = replace(event)
        else:
            counted.count += 1

    def _due(self) -> None:
        self._timer = None
        try:
            done = self.flush()
        except Exception:
            logger.exception("a count of denials could not be recorded yet")
            done = False
        if not done:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._due)


def _without_host(event: DecisionEvent) -> DecisionEvent:
    return replace(
        event,
        host=None,
        port=None,
        method=None,
        path=None,
        query=None,
        sni=None,
        rewritten=None,
        detail="denials of more hosts than are told apart",
    )

"""Deadlines of many connections by one timer: moving one costs an assignment, since most are moved and few are met."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# How late a deadline may be noticed, in seconds.
PERIOD = 0.2


class Timed(Protocol):
    """Something with a deadline, in the loop's time; `late` is called once it has passed, and must move it."""

    deadline: float

    def late(self) -> None:
        """The deadline has passed."""


class Clock:
    """Looks at what it watches a few times a second, while there is anything to watch."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._watched: set[Timed] = set()
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """The loop's time, in seconds."""
        return self.loop.time()

    def limit(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back in `seconds`, unless the handle is cancelled before: for what is rare or must be exact."""
        return self.loop.call_later(seconds, callback)

    def watch(self, timed: Timed) -> None:
        """Look at its deadline from now on."""
        self._watched.add(timed)
        if self._timer is None:
            self._timer = self.loop.call_later(PERIOD, self._look)

    def forget(self, timed: Timed) -> None:
        """Look at it no more."""
        self._watched.discard(timed)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        for timed in [timed for timed in self._watched if timed.deadline <= now]:
            try:
                timed.late()
            except Exception:  # INVARIANT bounded: one that fails must not stop the clock of all others
                logger.exception("a deadline could not be kept")
        if self._watched:
            self._timer = self.loop.call_later(PERIOD, self._look)

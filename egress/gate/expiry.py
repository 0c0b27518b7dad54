"""When rules expire: the next moment of a generation is waited for while something is open that may end with it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.config import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable

# The next moment is looked for again after so long at most: the clock may be set.
_LOOK_SECONDS = 60.0


@dataclass(slots=True)
class ExpiryWatch:
    """`moments`: those of one generation, in seconds since 1970, soonest first.

    `come` has what has expired cut, and says whether anything is open still.
    """

    moments: tuple[float, ...]
    come: Callable[[], bool]
    _timer: asyncio.TimerHandle | None = None

    def look(self, since: float) -> None:
        """Wait for the next moment, unless that is done already.

        `since`: what is open was judged then or later. A moment that has come meanwhile would else be met by nobody.
        """
        coming = next((moment for moment in self.moments if moment > since), None)
        if coming is None:
            return
        left = max(coming - wall_clock(), 0.0)
        if self._timer is not None:
            if left:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(min(left, _LOOK_SECONDS), self._come)

    def stop(self) -> None:
        """Wait no longer: another generation is in force."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _come(self) -> None:
        self._timer = None
        since = wall_clock()
        is_open = True
        try:
            is_open = self.come()
        finally:
            # INVARIANT fail-closed: also where it failed, the next moment is met.
            if is_open:
                self.look(since)

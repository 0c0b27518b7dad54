"""Counts by minute, allowed and not, and how they are drawn in one line. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BARS: Final = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
# A record of millions is not counted to its beginning for a line of the screen.
MOST_COUNTED: Final = 50_000
_KEPT_MINUTES: Final = 240


@dataclass(slots=True)
class Activity:
    """Decisions by minute since 1970. `counted`: up to which key; `since`: from which on, 0 for all of them."""

    minutes: dict[int, tuple[int, int]] = field(default_factory=dict)
    counted: int = 0
    since: int = 0

    def add(self, counts: Mapping[int, tuple[int, int]], last: int) -> None:
        """Count these too, which end with the key `last`."""
        for minute, (allowed, other) in counts.items():
            had = self.minutes.get(minute, (0, 0))
            self.minutes[minute] = had[0] + allowed, had[1] + other
        self.counted = max(self.counted, last)
        for minute in sorted(self.minutes)[:-_KEPT_MINUTES]:
            del self.minutes[minute]

    def shown(self, width: int) -> list[tuple[int, int]]:
        """The last `width` minutes, up to the newest that has a row."""
        end = max(self.minutes, default=0)
        return [self.minutes.get(minute, (0, 0)) for minute in range(end - width + 1, end + 1)]

    @property
    def last_minute(self) -> int | None:
        """The newest minute that has a row."""
        return max(self.minutes, default=None)


def bars(counts: list[int]) -> str:
    """A bar a count; the highest is a full one, and what is not nothing is seen."""
    most = max(counts, default=0)
    return "".join(BARS[0 if not count else max(1, round(count / most * (len(BARS) - 1)))] for count in counts)

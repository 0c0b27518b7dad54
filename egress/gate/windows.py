"""Counts over time, for the limits of rules: what was taken in the last so many seconds, or from a bucket that refills.

1. `Window`: in any stretch of its length no more than the limit; what was taken counts until all of its slot is over,
   so at most one part in `SLOTS` is refused too much
2. `Bucket`: in any stretch of t seconds no more than the burst and what t seconds refill

Moments are seconds of a monotonic clock, given by who asks; of a clock that went back nothing is refilled.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOTS: Final = 64
# What adding up refills may be off by, in units.
_ROUNDING: Final = 1e-6


class Window:
    """What was taken in the last `seconds`."""

    __slots__ = ("_seconds", "_slots", "_total", "_width")

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._width = seconds / SLOTS
        # (slot, units), oldest first.
        self._slots: deque[tuple[int, int]] = deque()
        self._total = 0

    def taken(self, now: float) -> int:
        """How many units still count."""
        while self._slots and self._over(self._slots[0][0]) <= now:
            self._total -= self._slots.popleft()[1]
        return self._total

    def add(self, units: int, now: float) -> None:
        """So many were taken now."""
        self.merge([(int(now / self._width), units)])

    def give_back(self, units: int) -> None:
        """So many that were taken are not used: those that would be forgotten first, so that none is too early."""
        while units > 0 and self._slots:
            slot, count = self._slots.popleft()
            given = min(units, count)
            units -= given
            self._total -= given
            if count > given:
                self._slots.appendleft((slot, count - given))

    def seconds_until(self, room: int, limit: int, now: float) -> float:
        """How long until so many more may be taken, if none is meanwhile."""
        left = self.taken(now)
        for slot, count in self._slots:
            if left + room <= limit:
                break
            left -= count
            until = self._over(slot) - now
        else:
            return until if self._slots else 0.0
        return until if left != self._total else 0.0

    def slots(self) -> list[tuple[int, int]]:
        """All that counts, as plain values."""
        return list(self._slots)

    def merge(self, slots: Iterable[tuple[int, int]]) -> None:
        """What was taken elsewhere counts here too."""
        for slot, units in slots:
            self._total += units
            if self._slots and self._slots[-1][0] == slot:
                self._slots[-1] = (slot, self._slots[-1][1] + units)
            elif not self._slots or self._slots[-1][0] < slot:
                self._slots.append((slot, units))
            else:
                merged = dict(self._slots)
                merged[slot] = merged.get(slot, 0) + units
                self._slots = deque(sorted(merged.items()))

    def _over(self, slot: int) -> float:
        """When a slot counts no more: none of what it holds was taken in the last `seconds` then."""
        return (slot + 1) * self._width + self._seconds


class Bucket:
    """Units that were taken and are not refilled yet."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at = float("-inf")

    def taken(self, rate: float, now: float) -> float:
        """How many units are not refilled yet, at so many a second."""
        if now > self._at:
            if self._level:
                self._level = max(0.0, self._level - (now - self._at) * rate)
            self._at = now
        return self._level

    def has_room(self, burst: int, rate: float, now: float) -> bool:
        """Whether one more may be taken."""
        return self.taken(rate, now) + 1 <= burst + _ROUNDING

    def add(self, units: int) -> None:
        """So many were taken just now."""
        self._level += units

    def seconds_until(self, burst: int, rate: float, now: float) -> float:
        """How long until one more may be taken, if none is meanwhile."""
        return max(0.0, (self.taken(rate, now) + 1 - burst) / rate)

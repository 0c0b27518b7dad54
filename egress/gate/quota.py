"""The limits of rules, counted: requests, requests under way, and bytes, by the key of sandbox and rule.

1. all limits of all rules that allow a request hold: it takes of each, or of none
2. a request is refused too where no byte may pass any more; what is under way is cut once its next bytes find no room
3. bounded: what counts for nothing any more is forgotten, and beyond `KEYS_AT_MOST` keys nothing new is admitted

Pure: who asks gives the moment, in seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress.gate.windows import Bucket, Window
from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.policy import KeyedLimits, Rate, RuleLimits

KEYS_AT_MOST: Final = 65_536
_SWEEP_AT_LEAST: Final = 1_024

# One key's windows, as plain values: (which, seconds, slots).
type Slots = list[tuple[str, int, list[tuple[int, int]]]]


class Way(StrEnum):
    """Which of the byte limits."""

    UPLOAD = "upload"
    DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Over:
    """A limit that is reached. `limit` is its name in a policy; `seconds` until it is not, where that is known."""

    reason: Reason
    limit: str
    seconds: float | None = None


@dataclass(slots=True)
class _Counts:
    """All that is counted under one key. `windows`: by what they count and their length, since a reload may change it.

    `bucket_full_at`: when the bucket is full again, whatever was taken elsewhere. `drained`: its past is not known.
    """

    windows: dict[tuple[str, int], Window] = field(default_factory=dict)
    bucket: Bucket = field(default_factory=Bucket)
    bucket_full_at: float = float("-inf")
    drained: bool = False
    held: dict[str, int] = field(default_factory=dict)

    def window(self, which: str, rate: Rate) -> Window:
        """The window of a limit."""
        key = (which, rate.seconds)
        found = self.windows.get(key)
        if found is None:
            found = self.windows[key] = Window(rate.seconds)
        return found

    def idle(self, now: float) -> bool:
        """Whether nothing here counts any more."""
        self.windows = {key: window for key, window in self.windows.items() if window.taken(now)}
        return not (self.windows or self.held or self.drained or now < self.bucket_full_at)


class Quotas:
    """What is counted. `reserve`: the part of a byte limit that is not given out, since stocks are used later."""

    def __init__(self, reserve: float = 0.0) -> None:
        self._reserve = reserve
        self._counts: dict[str, _Counts] = {}
        self._sweep_at = _SWEEP_AT_LEAST

    def __len__(self) -> int:
        return len(self._counts)

    def admit(self, holder: str, limits: KeyedLimits, now: float) -> Over | None:
        """Count one request of a process under every key, or say which limit is reached and count nothing."""
        for key, own in limits:
            counts = self._of(key, now)
            over = Over(Reason.LIMIT_REQUESTS, "") if counts is None else self._over(counts, own, now)
            if over is not None:
                return over
        self.count(holder, limits, now)
        return None

    def count(self, holder: str, limits: KeyedLimits, now: float) -> None:
        """Count one request that was admitted."""
        for key, own in limits:
            counts = self._of(key, now)
            if counts is not None:
                _count_request(counts, own, holder, now)

    def release(self, holder: str, limits: KeyedLimits) -> None:
        """A request of a process is not under way any more."""
        for key, own in limits:
            counts = self._counts.get(key)
            if counts is not None and own.concurrent is not None:
                self._hold(counts, holder, counts.held.get(holder, 0) - 1)

    def take(self, key: str, limits: RuleLimits, way: Way, wanted: int, now: float) -> int:
        """Take as many bytes as are wanted, or as there are."""
        rate = rate_of(limits, way)
        counts = self._of(key, now)
        if rate is None or counts is None:
            return 0
        window = counts.window(way, rate)
        granted = max(0, min(wanted, self._cap(rate) - window.taken(now)))
        if granted:
            window.add(granted, now)
        return granted

    def count_bytes(self, key: str, limits: RuleLimits, way: Way, units: int, now: float) -> None:
        """Count bytes that were granted."""
        rate, counts = rate_of(limits, way), self._of(key, now)
        if rate is not None and counts is not None:
            counts.window(way, rate).add(units, now)

    def give_back(self, key: str, limits: RuleLimits, way: Way, units: int) -> None:
        """Bytes that were taken did not pass."""
        counts, rate = self._counts.get(key), rate_of(limits, way)
        if counts is not None and rate is not None:
            counts.window(way, rate).give_back(units)

    def spent(self, limits: KeyedLimits, now: float) -> Over | None:
        """The byte limit that is reached, and for how long, if one is."""
        for key, own in limits:
            counts = self._counts.get(key)
            over = None if counts is None else self._spent(counts, own, now)
            if over is not None:
                return over
        return None

    def gone(self, holder: str) -> None:
        """A process is dead: nothing of it is under way. What it spent is spent."""
        for counts in self._counts.values():
            counts.held.pop(holder, None)

    # what another one counted before

    def report(self, now: float) -> Iterator[tuple[str, int, Slots]]:
        """All that counts, as plain values: by key, how many requests are under way, and the windows."""
        self._sweep(now)
        for key, counts in self._counts.items():
            slots = [(which, seconds, window.slots()) for (which, seconds), window in counts.windows.items()]
            yield key, sum(counts.held.values()), slots

    def restore(self, holder: str, key: str, held: int, slots: Slots | None, now: float) -> None:
        """What a process knows that it took: it counts here too, and its bucket begins empty.

        `slots` None: what it took was counted here.
        """
        counts = self._of(key, now)
        if counts is None:
            return
        self._hold(counts, holder, held)
        if slots is None:
            return
        for which, seconds, taken in slots:
            counts.windows.setdefault((which, seconds), Window(seconds)).merge(taken)
        counts.drained = True

    def _over(self, counts: _Counts, limits: RuleLimits, now: float) -> Over | None:
        requests = limits.requests
        if limits.concurrent is not None and sum(counts.held.values()) >= limits.concurrent:
            return Over(Reason.LIMIT_REQUESTS, "concurrent")
        if requests is not None and limits.burst is not None:
            rate = requests.count / requests.seconds
            _begin(counts, limits.burst, rate, now)
            if not counts.bucket.has_room(limits.burst, rate, now):
                return Over(Reason.LIMIT_REQUESTS, "requests", counts.bucket.seconds_until(limits.burst, rate, now))
        elif requests is not None:
            window = counts.window("requests", requests)
            if window.taken(now) >= requests.count:
                return Over(Reason.LIMIT_REQUESTS, "requests", window.seconds_until(1, requests.count, now))
        return self._spent(counts, limits, now)

    def _spent(self, counts: _Counts, limits: RuleLimits, now: float) -> Over | None:
        for way in Way:
            rate = rate_of(limits, way)
            if rate is None:
                continue
            window = counts.window(way, rate)
            if window.taken(now) >= self._cap(rate):
                return Over(Reason.LIMIT_BYTES, way.value, window.seconds_until(1, self._cap(rate), now))
        return None

    def _cap(self, rate: Rate) -> int:
        return rate.count - int(rate.count * self._reserve)

    def _of(self, key: str, now: float) -> _Counts | None:
        """The counts of a key, made when it is first asked for. None: there are too many."""
        found = self._counts.get(key)
        if found is None:
            if len(self._counts) >= self._sweep_at:
                self._sweep(now)
                self._sweep_at = max(2 * len(self._counts), _SWEEP_AT_LEAST)
            if len(self._counts) >= KEYS_AT_MOST:
                return None
            found = self._counts[key] = _Counts()
        return found

    def _sweep(self, now: float) -> None:
        self._counts = {key: counts for key, counts in self._counts.items() if not counts.idle(now)}

    def _hold(self, counts: _Counts, holder: str, count: int) -> None:
        if count > 0:
            counts.held[holder] = count
        else:
            counts.held.pop(holder, None)


def rate_of(limits: RuleLimits, way: Way) -> Rate | None:
    """The limit of one way."""
    return limits.upload if way is Way.UPLOAD else limits.download


def for_sandbox(sandbox: str, limits: KeyedLimits) -> KeyedLimits:
    """The limits of a decision under the keys of one sandbox."""
    return tuple([(f"{sandbox}\0{key}", own) for key, own in limits])


def _begin(counts: _Counts, burst: int, rate: float, now: float) -> None:
    """A bucket whose past is not known begins empty."""
    counts.bucket.taken(rate, now)
    if counts.drained:
        counts.drained = False
        counts.bucket.add(burst)
        counts.bucket_full_at = now + burst / rate


def _count_request(counts: _Counts, limits: RuleLimits, holder: str, now: float) -> None:
    if limits.concurrent is not None:
        counts.held[holder] = counts.held.get(holder, 0) + 1
    if limits.requests is None:
        return
    if limits.burst is not None:
        rate = limits.requests.count / limits.requests.seconds
        _begin(counts, limits.burst, rate, now)
        counts.bucket.add(1)
        counts.bucket_full_at = now + limits.burst / rate
    else:
        counts.window("requests", limits.requests).add(1, now)

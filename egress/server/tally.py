"""What the hub counts of the rows that it takes, for the metrics.

INVARIANT bounded: what a row says decides about no label but verdict, reason, lane and kind, which are words of ours,
and the sandbox's name, of which so many are kept. What is beyond counts as `_other`, which no sandbox can be called.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from egress.audit.row import COLUMNS, DECISIONS, OUTCOMES

if TYPE_CHECKING:
    from egress.audit.row import Row

OTHER: Final = "_other"
# Seconds.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SANDBOXES_AT_MOST: Final = 100
_DECISIONS_AT_MOST: Final = 600
_KINDS_AT_MOST: Final = 100
_MICROSECONDS: Final = 1_000_000

_VERDICT, _REASON, _LANE, _SANDBOX, _COUNT = (
    COLUMNS[DECISIONS].index(name) for name in ("verdict", "reason", "lane", "sandbox", "count")
)
_UP, _DOWN, _DURATION, _FIRST = (
    COLUMNS[OUTCOMES].index(name) for name in ("bytes_up", "bytes_down", "duration_us", "first_byte_us")
)
_KIND: Final = 2


class _Times:
    """How many took how long."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, microseconds: object) -> None:
        if isinstance(microseconds, int):
            seconds = microseconds / _MICROSECONDS
            self.counts[bisect_left(BOUNDS, seconds)] += 1
            self.total += seconds

    def plain(self) -> dict[str, Any]:
        return {"counts": list(self.counts), "total": self.total}


class Tally:
    """Counters since the hub began."""

    def __init__(self) -> None:
        self._decisions: Counter[tuple[str, ...]] = Counter()
        self._sandboxes: dict[str, Counter[str]] = {}
        self._kinds: Counter[str] = Counter()
        self._bytes = [0, 0]
        self._outcomes = 0
        self._durations, self._first_bytes = _Times(), _Times()

    def row(self, table: str, row: Row) -> None:
        """Count a row."""
        if table == DECISIONS:
            self._decision(row)
        elif table == OUTCOMES:
            self._outcomes += 1
            up, down = row[_UP], row[_DOWN]
            self._bytes[0] += up if isinstance(up, int) else 0
            self._bytes[1] += down if isinstance(down, int) else 0
            self._durations.add(row[_DURATION])
            self._first_bytes.add(row[_FIRST])
        else:
            self.note(str(row[_KIND]))

    def note(self, kind: str) -> None:
        """Count something that happened to the proxy."""
        self._kinds[kind if kind in self._kinds or len(self._kinds) < _KINDS_AT_MOST else OTHER] += 1

    def plain(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "decisions": [[*key, count] for key, count in self._decisions.items()],
            "sandboxes": {name: dict(verdicts) for name, verdicts in self._sandboxes.items()},
            "kinds": dict(self._kinds),
            "bytes": list(self._bytes),
            "outcomes": self._outcomes,
            "durations": self._durations.plain(),
            "first_bytes": self._first_bytes.plain(),
        }

    def _decision(self, row: Row) -> None:
        count = row[_COUNT]
        number = count if isinstance(count, int) else 1
        verdict = str(row[_VERDICT])
        key = (verdict, str(row[_REASON]), str(row[_LANE] or "none"))
        if key not in self._decisions and len(self._decisions) >= _DECISIONS_AT_MOST:
            key = (verdict, OTHER, OTHER)
        self._decisions[key] += number
        name = str(row[_SANDBOX])
        verdicts = self._sandboxes.get(name)
        if verdicts is None:
            name = name if len(self._sandboxes) < SANDBOXES_AT_MOST else OTHER
            verdicts = self._sandboxes.setdefault(name, Counter())
        verdicts[verdict] += number

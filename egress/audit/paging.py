"""Reading the audit by pages: the rows before and after a place, found by key, for a screen over a record of any size.

1. A page is read in slices of keys, a short transaction each, so that neither a filter that almost nothing meets nor a
   record of millions holds up the proxy; between two slices the caller is asked whether to go on.
2. No text of a row is longer than `LONGEST` here, whatever another program has written into the file, and bytes that
   are no UTF-8 come out escaped.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from egress.audit.filter_sql import where
from egress.audit.reader import AuditReader, AuditRow, _first_since, _row
from egress.audit.summary import summarize

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from egress.audit.filters import Filter
    from egress.audit.summary import Summary

LONGEST: Final = 4_096
_MINUTE_US: Final = 60_000_000
# How many keys a slice has: few for the first, which most often fills the page, then more.
_FIRST_SLICE: Final = 1_000
_LAST_SLICE: Final = 32_000
# SQLite's own bound of parameters is far above.
_MOST_NAMED: Final = 500

_NUMBERS = frozenset(
    {"seq", "time_us", "line", "port", "status", "bytes_up", "bytes_down", "duration_us", "first_byte_us", "count"}
)
_COLUMNS = ", ".join(
    field.name if field.name in _NUMBERS else f"substr({field.name}, 1, {LONGEST})" for field in fields(AuditRow)
)
_SLICE = f"SELECT {_COLUMNS} FROM requests WHERE seq >= ? AND seq < ? AND {{where}} ORDER BY seq {{order}} LIMIT ?"  # noqa: S608 -- constants
_SEQS = f"SELECT {_COLUMNS} FROM requests WHERE seq IN ({{places}}) ORDER BY seq"  # noqa: S608 -- constants
_MINUTES = (
    "SELECT time_us / 60000000, verdict = 'allow', sum(count) FROM decisions WHERE seq > ? AND seq <= ? GROUP BY 1, 2"
)


@dataclass(frozen=True, slots=True)
class Ends:
    """How far the record goes: the keys of its first and last decision (0, 0: there are none), and last outcome.

    `file` is another one when the file was deleted and made anew.
    """

    first: int
    last: int
    outcomes: int
    file: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.last - self.first + 1 if self.last else 0


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order, the oldest first. `whole`: nothing further in that direction meets the filter.

    `reached` is the key up to which was looked, exclusive: a search that was ended can go on from there.
    """

    rows: tuple[AuditRow, ...]
    whole: bool
    reached: int


class PagedReader(AuditReader):
    """An AuditReader that also reads pages."""

    def ends(self) -> Ends:
        """How far the record goes now; a file that was replaced is opened anew."""
        self._reopen_if_replaced()
        with self._snapshot() as connection:
            last, outcomes = self._ends(connection)
            (first,) = connection.execute("SELECT coalesce(min(seq), 0) FROM decisions").fetchone()
        return Ends(first, last, outcomes, self._identity)

    def before(self, seq: int, wanted: Filter, *, limit: int, going: Callable[[int], bool] = lambda _: True) -> Page:
        """The `limit` rows nearest before `seq` that meet the filter. `going` is told how far it is, and may end it."""
        ends = self.ends()
        low, high = self._low(wanted, ends), min(seq, ends.last + 1)
        rows: list[AuditRow] = []
        step = _FIRST_SLICE
        while high > low and len(rows) < limit:
            start = max(low, high - step)
            found = self._slice(start, high, wanted, "DESC", limit - len(rows))
            rows += found
            full = len(rows) >= limit
            high = rows[-1].seq if full else start
            step = min(step * 2, _LAST_SLICE)
            if not full and not going(high):
                break
        return Page(tuple(reversed(rows)), high <= low, high)

    def after(self, seq: int, wanted: Filter, *, limit: int, going: Callable[[int], bool] = lambda _: True) -> Page:
        """The `limit` rows nearest after `seq` that meet the filter; else as `before`."""
        ends = self.ends()
        low, high = max(seq + 1, self._low(wanted, ends)), ends.last + 1
        rows: list[AuditRow] = []
        step = _FIRST_SLICE
        while low < high and len(rows) < limit:
            end = min(high, low + step)
            rows += self._slice(low, end, wanted, "ASC", limit - len(rows))
            full = len(rows) >= limit
            low = rows[-1].seq + 1 if full else end
            step = min(step * 2, _LAST_SLICE)
            if not full and not going(low):
                break
        return Page(tuple(rows), low >= high, low)

    def again(self, seqs: Sequence[int]) -> list[AuditRow]:
        """These rows as they are now: a row that was `open` may have ended."""
        some = list(seqs[:_MOST_NAMED])
        with self._snapshot() as connection:
            found = connection.execute(_SEQS.format(places=", ".join("?" * len(some))), some).fetchall()
        return [_row(values) for values in found]

    def minutes(self, after: int, last: int) -> dict[int, tuple[int, int]]:
        """How many decisions were allowed, and how many not, by minute since 1970, of keys in (`after`, `last`]."""
        with self._snapshot() as connection:
            found = connection.execute(_MINUTES, (after, last)).fetchall()
        counts: dict[int, tuple[int, int]] = {}
        for minute, allowed, count in found:
            had = counts.get(minute, (0, 0))
            counts[minute] = (had[0] + count, had[1]) if allowed else (had[0], had[1] + count)
        return counts

    def talkers(self, wanted: Filter, *, most: int) -> Summary:
        """The figures of what meets the filter among the newest `most` rows."""
        ends = self.ends()
        first = max(self._low(wanted, ends), ends.last - most + 1)
        with self._snapshot() as connection:
            return summarize(connection, wanted, first)

    def _slice(self, low: int, high: int, wanted: Filter, order: str, limit: int) -> list[AuditRow]:
        condition, parameters = where(wanted)
        with self._snapshot() as connection:
            statement = _SLICE.format(where=condition, order=order)
            return [_row(values) for values in connection.execute(statement, [low, high, *parameters, limit])]

    def _low(self, wanted: Filter, ends: Ends) -> int:
        """The first key that can meet the filter."""
        if wanted.since_us is None or not ends.last:
            return ends.first
        with self._snapshot() as connection:
            return max(ends.first, _first_since(connection, wanted.since_us, ends.last))

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = super()._connect(mode)
        connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        return connection

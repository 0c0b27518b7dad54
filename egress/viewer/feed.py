"""Fills the window from the record, and keeps it full: pages at its ends, what is new, and searches that take long.

1. Nothing is asked for longer than `_SLICE_SECONDS` at a time: what was found by then is shown, and the search goes on
   unless it was stopped. So a rare filter shows its first rows at once, and neither quitting nor another filter waits.
2. Following costs the same at any rate: past `_MOST_BEHIND` rows the newest are read instead of all that came between.
3. An answer that comes after the window was filled anew is dropped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.audit import Ends, Filter
from egress.audit.filters import Term
from egress.viewer.activity import MOST_COUNTED, Activity
from egress.viewer.asker import Asker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import Page, PagedReader
    from egress.viewer.window import Window

PAGE: Final = 300
_SLICE_SECONDS: Final = 0.2
_MOST_BEHIND: Final = 1_000
_REFUSED: Final = Filter((Term("verdict", ("deny", "ask")),))


@dataclass(slots=True)
class _Slice:
    """A search goes on until its time is up, or it was stopped."""

    feed: Feed
    until: float

    def __call__(self, seq: int) -> bool:
        self.feed.reached = seq
        return time.monotonic() < self.until and not self.feed.stopped


class Feed:
    """`shifted` is called with how many lines now stand above what stood first; `filled` when all lines are others."""

    def __init__(
        self, path: Path, window: Window, *, shifted: Callable[[int], object], filled: Callable[[int], object]
    ) -> None:
        self.window = window
        self.wanted = Filter()
        self.ends = Ends(0, 0, 0)
        self.activity = Activity()
        self.stopped = False
        self.reached = 0
        self.searching = 0
        self._opening = 0
        self._shifted, self._filled = shifted, filled
        # A long search holds up neither what is new nor the counts.
        self._pages, self._live = Asker(path), Asker(path)
        self._growing: set[bool] = set()

    def close(self) -> None:
        """End both threads."""
        self.stopped = True
        self._pages.close()
        self._live.close()

    async def ask_live[Answer](self, question: Callable[[PagedReader], Answer]) -> Answer:
        """An answer that no long search holds up."""
        return await self._live.ask(question)

    async def newest(self) -> None:
        """Show the end of the record."""
        self.stopped = False
        self._opening += 1
        try:
            self.ends = await self._pages.ask(lambda reader: reader.ends())
        finally:
            self._opening -= 1
        await self._fill(self.ends.last + 1)

    async def at(self, part: float) -> None:
        """Show the record from 0 (its oldest rows) to 1 (its newest)."""
        if part >= 1:
            await self.newest()
            return
        self.stopped = False
        await self.around(self.ends.first + int(part * (self.ends.last - self.ends.first)))

    async def around(self, seq: int) -> None:
        """Show the rows before and after a key, and stand on it."""
        turn = self.window.turn
        older = await self._ask(lambda reader: reader.before(seq, self.wanted, limit=PAGE, going=self._slice()))
        newer = await self._ask(lambda reader: reader.after(seq - 1, self.wanted, limit=PAGE, going=self._slice()))
        if turn != self.window.turn:
            return
        self.window.fill(older, newer)
        self._filled(self.window.place_of(seq))
        if not self.window.lines:
            await self.grow(older=False)

    async def grow(self, *, older: bool) -> None:
        """Read a page at an end of the window, however long that takes."""
        if older in self._growing:
            return
        self._growing.add(older)
        try:
            await self._grow(older=older)
        finally:
            self._growing.discard(older)

    async def refused(self, *, older: bool) -> int | None:
        """The key of the next row that was refused, from the window's end on; None: there is none."""
        wanted = self.wanted & _REFUSED
        low, high = self.window.low, self.window.high
        self.stopped = False
        while not self.stopped:
            page = await self._one(wanted, low, high, older=older)
            if page.rows:
                return page.rows[0].seq
            if page.whole:
                return None
            low, high = page.reached, page.reached - 1
        return None

    async def poll(self, *, follows: bool) -> bool:
        """Take note of what is new; whether anything is."""
        ends = await self._live.ask(lambda reader: reader.ends())
        # What `newest` is about to show, a poll would show a second time, under a cursor that has moved by then.
        if self._opening:
            return False
        if ends == self.ends and self.activity.counted == ends.last:
            return False
        before, self.ends = self.ends, ends
        if ends.file != before.file or ends.last < before.last:
            self.activity = Activity()
            await self._fill(ends.last + 1)
        await self._count(ends)
        if ends.outcomes != before.outcomes and (keys := self.window.open_keys()):
            self.window.update(await self._live.ask(lambda reader: reader.again(keys)))
        if not follows:
            self.window.newest = self.window.newest and self.window.high >= ends.last
        elif ends.last - self.window.high > _MOST_BEHIND and self.window.newest:
            await self._fill(ends.last + 1)
        elif ends.last > self.window.high:
            self.window.newest = False
            await self.grow(older=False)
        return True

    async def _fill(self, high: int) -> None:
        self.window.turn += 1
        turn = self.window.turn
        page = await self._ask(lambda reader: reader.before(high, self.wanted, limit=PAGE, going=self._slice()))
        if turn != self.window.turn:
            return
        self.window.fill(page, high=high - 1)
        self._filled(len(self.window.lines) - 1)
        await self.grow(older=True)

    async def _grow(self, *, older: bool) -> None:
        window, turn, added = self.window, self.window.turn, 0
        while added < PAGE and not self.stopped and not (window.oldest if older else window.newest):
            page = await self._page(older=older)
            if window.turn != turn:
                return
            before = len(window.lines)
            shift = window.prepend(page) if older else -window.append(page)
            added += max(len(page.rows), 1) if window.grouped is False else abs(len(window.lines) - before)
            added -= 0 if page.rows else 1
            self._shifted(shift)

    async def _page(self, *, older: bool) -> Page:
        low, high = self.window.low, self.window.high
        if older:
            return await self._ask(lambda reader: reader.before(low, self.wanted, limit=PAGE, going=self._slice()))
        return await self._ask(lambda reader: reader.after(high, self.wanted, limit=PAGE, going=self._slice()))

    async def _one(self, wanted: Filter, low: int, high: int, *, older: bool) -> Page:
        if older:
            return await self._ask(lambda reader: reader.before(low, wanted, limit=1, going=self._slice()))
        return await self._ask(lambda reader: reader.after(high, wanted, limit=1, going=self._slice()))

    async def _ask(self, question: Callable[[PagedReader], Page]) -> Page:
        self.searching += 1
        try:
            return await self._pages.ask(question)
        finally:
            self.searching -= 1

    async def _count(self, ends: Ends) -> None:
        activity = self.activity
        after = max(activity.counted, ends.last - MOST_COUNTED)
        activity.add(await self._live.ask(lambda reader: reader.minutes(after, ends.last)), ends.last)

    def _slice(self) -> _Slice:
        return _Slice(self, time.monotonic() + _SLICE_SECONDS)

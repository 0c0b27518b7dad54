"""The screen: the table with what stands around it, and the clock that follows the record."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text
from textual.app import App
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from egress.audit import Filter
from egress.audit.saved import read_with_saved, saved_file, saved_filters
from egress.errors import EgressError
from egress.viewer.dialogs import labelled
from egress.viewer.feed import Feed
from egress.viewer.header import Header
from egress.viewer.prompt import Prompt
from egress.viewer.retold import title, trace
from egress.viewer.table import RowTable, Side
from egress.viewer.text import shown

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from textual.app import ComposeResult

    from egress.viewer.ports import Desk

POLL_SECONDS: Final = 0.25
_MICROS: Final = 1_000


class Frame(App[None]):
    """`text` is the filter that it opens with; `desk` is the policy at hand, if one was named."""

    TITLE = "egress audit"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = None
    CSS = """
    Screen { background: $background; }
    #filter { height: 1; display: none; }
    #filter.open { display: block; }
    #detail { height: 55%; border-top: solid $primary; padding: 0 1; display: none; }
    #detail.open { display: block; }
    #detail Static { height: auto; }
    Footer { background: $background; }
    """

    def __init__(self, path: Path, text: str = "", desk: Desk | None = None) -> None:
        super().__init__()
        self.theme = _theme()
        self._path, self._desk = path, desk
        self._text = text
        self._saved = saved_file()
        self._rows = RowTable()
        self._header = Header(str(path), None if desk is None else desk.file)
        self._follows = True
        self._polling = False
        self._held_at = 0
        self._exporting = ""
        self._export_stopped = False
        self.feed = Feed(path, self._rows.window, shifted=self._shifted, filled=self._filled)

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self._header
        yield Static(id="filter", markup=False)
        yield self._rows
        with VerticalScroll(id="detail", can_focus=False):
            yield Static(id="detail-text", markup=False)
        yield Prompt()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show the newest rows, then follow."""
        self._rows.focus()
        self._rows.empty = "reading..."
        text, self._text = self._text, ""
        self._set_filter(text)
        self.set_interval(POLL_SECONDS, self._poll)

    def on_unmount(self) -> None:
        """Let go of the file."""
        self.feed.close()

    # What is shown

    def _set_filter(self, text: str) -> None:
        """Show what meets it; one that cannot be taken, as one that grew too long, is told and changes nothing."""
        try:
            self.feed.wanted = self._read(text)
        except (EgressError, ValueError) as error:
            self._tell(str(error), wrong=True)
            return
        self._text = text
        bar = self.query_one("#filter", Static)
        bar.set_class(bool(text), "open")
        bar.update(Text.assemble(("filter ", "bold"), shown(text), ("  esc drops it", "dim")))
        self._hold(follows=True)
        self._start(self.feed.newest())

    def _read(self, text: str) -> Filter:
        # Saved ones are read as they are now: another viewer may have saved one.
        saved = saved_filters(self._saved) if "@" in text else {}
        return read_with_saved(text, time.time_ns() // _MICROS, saved)

    def _check_filter(self, text: str) -> None:
        try:
            self._read(text)
        except EgressError as error:
            raise ValueError(error.message) from error

    def _poll(self) -> None:
        if not self._polling:
            self._polling = True
            self._start(self._poll_once())
        self._show_state()

    async def _poll_once(self) -> None:
        try:
            if await self.feed.poll(follows=self._follows):
                self._rows.refresh()
        finally:
            self._polling = False

    def _start(self, task: Coroutine[object, object, None]) -> None:
        async def guarded() -> None:
            try:
                await task
            except EgressError as error:
                self._rows.empty = error.message
                self._tell(error.message, wrong=True)
            self._show_state()

        self.run_worker(guarded(), group="reading")

    def _show_state(self) -> None:
        feed, header = self.feed, self._header
        header.activity, header.count, header.follows = feed.activity, feed.ends.count, self._follows
        header.behind = max(0, feed.ends.last - self._held_at) if feed.wanted == Filter() else 0
        header.grouped = self._rows.window.grouped
        header.busy = self._exporting or self._search_state()
        self._rows.show_ends(feed.ends)
        if header.busy:
            self._rows.empty = ""
        elif feed.ends.file is not None:
            self._rows.empty = "no rows yet" if feed.wanted == Filter() else "no rows match; esc drops the filter"
        header.refresh()

    def _search_state(self) -> str:
        ends = self.feed.ends
        if not self.feed.searching or len(self._rows.window.lines) >= self._rows.room:
            return "\u25cb search stopped" if self.feed.stopped else ""
        part = (ends.last - self.feed.reached) / max(1, ends.last - ends.first) if self.feed.reached else 0.0
        return f"searching {min(max(part, 0.0), 1.0):.0%}, esc stops"

    def _shifted(self, lines: int) -> None:
        if self._follows:
            self._rows.put(len(self._rows.window.lines) - 1)
        else:
            self._rows.shift(lines)

    def _filled(self, cursor: int) -> None:
        self._rows.top = cursor - self._rows.room // 2
        self._rows.put(len(self._rows.window.lines) - 1 if self._follows else cursor)

    def _hold(self, *, follows: bool) -> None:
        if self._follows and not follows:
            self._held_at = self.feed.ends.last
        self._follows = follows
        self._show_state()

    def _tell(self, text: str, *, wrong: bool = False) -> None:
        self.notify(shown(text, 500), severity="error" if wrong else "information", markup=False, timeout=4)

    # What the table says

    def on_row_table_more(self, message: RowTable.More) -> None:
        """Read on at that end."""
        self._start(self.feed.grow(older=message.side is Side.OLDER))

    def on_row_table_moved(self, message: RowTable.Moved) -> None:
        """Who leaves the newest row no longer follows; who comes back to it does."""
        if message.by_hand:
            self.feed.stopped = False
            self._hold(follows=self._rows.at_end)
        self._show_detail()

    def on_row_table_chosen(self) -> None:
        """Open the detail, or close it."""
        self.query_one("#detail").toggle_class("open")
        self._show_detail()

    def on_row_table_to(self, message: RowTable.To) -> None:
        """Go to that part of the record."""
        self._hold(follows=message.part >= 1)
        self._start(self.feed.at(message.part))

    def _show_detail(self) -> None:
        # None while the screen is being made or taken down: rows may come before and after.
        for pane in self.query("#detail.open"):
            row = self._rows.row
            told = Group() if row is None else Group(Text(shown(title(row), 1_000), "bold"), labelled(trace(row)))
            pane.query_one("#detail-text", Static).update(told)
            pane.scroll_home(animate=False)


def _theme() -> str:
    """The terminal's own colours, which fit a light and a dark one alike, unless another theme is asked for."""
    if named := os.environ.get("TEXTUAL_THEME"):
        return named
    # The last number is the background, by those terminals that say so: 7 and 15 are white.
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return "ansi-light" if background in {"7", "15"} else "ansi-dark"

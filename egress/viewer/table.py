"""The table of rows: draws the lines that are seen, from a window over the record, and asks for more near its ends.

Nothing here reads the record or grows with it: one line of the screen is one line of the window.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from egress.viewer.columns import GAP, cell_text, is_today, layout
from egress.viewer.text import fitted
from egress.viewer.window import Window

if TYPE_CHECKING:
    from rich.style import Style
    from textual import events

    from egress.audit import AuditRow, Ends
    from egress.viewer.columns import Column
    from egress.viewer.window import Line

# So many lines from an end of the window, more is asked for.
_NEAR: Final = 100
_WHEEL: Final = 3
_TONES: Final = ("allow", "deny", "ask", "open", "bad", "quiet", "title", "cursor", "bar")


class Side(IntEnum):
    """An end of the record."""

    OLDER = -1
    NEWER = 1


class RowTable(Widget, can_focus=True):
    """Rows below their titles, with a cursor, and a bar that shows which part of the record is seen."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"rows--{tone}" for tone in _TONES}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup,ctrl+b", "move_page(-1)", show=False),
        Binding("pagedown,ctrl+f,space", "move_page(1)", show=False),
        Binding("home", "end(-1)", show=False),
        Binding("end,G", "end(1)", show=False),
        Binding("enter", "choose", "detail"),
    ]
    DEFAULT_CSS = """
    RowTable { height: 1fr; }
    RowTable > .rows--allow { color: $success; }
    RowTable > .rows--deny { color: $error; text-style: bold; }
    RowTable > .rows--ask { color: $warning; text-style: bold; }
    RowTable > .rows--open { color: $secondary; }
    RowTable > .rows--bad { color: $error; }
    RowTable > .rows--quiet { text-style: dim; }
    RowTable > .rows--title { text-style: bold underline; }
    RowTable > .rows--cursor { text-style: reverse; }
    RowTable > .rows--bar { color: $primary; }
    """

    class More(Message):
        """The cursor is near an end of the window, and the record goes on there."""

        def __init__(self, side: Side) -> None:
            super().__init__()
            self.side = side

    class Moved(Message):
        """The cursor stands on another line. `by_hand`: a person moved it."""

        def __init__(self, *, by_hand: bool) -> None:
            super().__init__()
            self.by_hand = by_hand

    class Chosen(Message):
        """The line under the cursor was chosen."""

    class To(Message):
        """A person asked for another part of the record: an end, or a place between 0 (oldest) and 1."""

        def __init__(self, part: float) -> None:
            super().__init__()
            self.part = part

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()
        self.cursor = 0
        self.top = 0
        self.span: tuple[int, int] = (0, 0)
        self.empty = ""

    @property
    def row(self) -> AuditRow | None:
        """The row under the cursor."""
        lines = self.window.lines
        return lines[self.cursor].row if self.cursor < len(lines) else None

    @property
    def room(self) -> int:
        """How many lines are seen at once."""
        return max(1, self.size.height - 1)

    @property
    def at_end(self) -> bool:
        """Whether the cursor is on the newest line of the record."""
        return self.window.newest and self.cursor >= len(self.window.lines) - 1

    def show_ends(self, ends: Ends) -> None:
        """How far the record goes, for the bar."""
        self.span = (ends.first, ends.last)

    def put(self, cursor: int, *, by_hand: bool = False) -> None:
        """Set the cursor; the screen follows it."""
        self.cursor = max(0, min(cursor, len(self.window.lines) - 1))
        self._fit()
        self.refresh()
        self.post_message(self.Moved(by_hand=by_hand))
        self.ask_for_more()

    def shift(self, lines: int) -> None:
        """Stay at the same rows, of which so many now stand above more than before."""
        self.top = max(0, self.top + lines)
        self.put(self.cursor + lines)

    def ask_for_more(self) -> None:
        """Ask for rows near an end of the window, unless the record ends there too."""
        if self.cursor < _NEAR and not self.window.oldest:
            self.post_message(self.More(Side.OLDER))
        if self.cursor >= len(self.window.lines) - _NEAR and not self.window.newest:
            self.post_message(self.More(Side.NEWER))

    def action_move(self, lines: int) -> None:
        """Move the cursor by lines."""
        self.put(self.cursor + lines, by_hand=True)

    def action_move_page(self, pages: int) -> None:
        """Move it by screens."""
        self.top += pages * (self.room - 1)
        self.put(self.cursor + pages * (self.room - 1), by_hand=True)

    def action_end(self, side: int) -> None:
        """Ask for an end of the record."""
        self.post_message(self.To(0.0 if side < 0 else 1.0))

    def action_choose(self) -> None:
        """Choose the line under the cursor."""
        self.post_message(self.Chosen())

    def on_resize(self) -> None:
        """What is under the cursor stays on the screen."""
        self.put(self.cursor)

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the rows, and takes the cursor along."""
        self._wheel(_WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Likewise."""
        self._wheel(-_WHEEL)

    def on_click(self, event: events.Click) -> None:
        """A click takes the cursor there; a second one opens the row; on the bar it goes to that part of the record."""
        if event.x >= self.size.width - 1:
            self.post_message(self.To(min(1.0, max(0, event.y - 1) / max(1, self.room - 1))))
            return
        index = self.top + event.y - 1
        if event.y < 1 or index >= len(self.window.lines):
            return
        self.put(index, by_hand=True)
        if event.chain > 1:
            self.post_message(self.Chosen())

    def _fit(self) -> None:
        """Have the cursor on the screen, and no empty lines below the last row."""
        self.top = max(min(self.top, self.cursor), self.cursor - self.room + 1)
        self.top = max(0, min(self.top, len(self.window.lines) - self.room))

    def _wheel(self, lines: int) -> None:
        last = max(0, len(self.window.lines) - self.room)
        self.top = max(0, min(self.top + lines, last))
        at_edge = self.top in {0, last}
        wanted = self.cursor + lines if at_edge else self.cursor
        self.put(max(self.top, min(wanted, self.top + self.room - 1)), by_hand=True)

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self.size.width
        # The height may have changed since the cursor was set, such as when the detail opens.
        self._fit()
        seen = self.window.lines[self.top : self.top + self.room]
        # Rows are in order, but for clocks that were set.
        columns = layout(width - 2, days=bool(seen) and not (is_today(seen[0].row) and is_today(seen[-1].row)))
        if y == 0:
            titles = [fitted(column.title, column.width, right=column.right) for column in columns]
            return self._strip([Segment(" ".join(titles), self._style("title"))], width)
        index = self.top + y - 1
        lines = self.window.lines
        if index >= len(lines):
            text = self.empty if not lines and y == 2 else ""  # noqa: PLR2004 -- a line of air below the titles
            return self._strip([Segment(fitted(text, width - 1), self._style("quiet"))], width, y)
        return self._strip(self._cells(columns, lines[index], chosen=index == self.cursor), width, y)

    def _cells(self, columns: list[Column], line: Line, *, chosen: bool) -> list[Segment]:
        cursor = self._style("cursor")
        cells = []
        for place, column in enumerate(columns):
            tone = column.tone(line.row)
            style = self._style(tone) if tone else self.rich_style
            text = fitted(cell_text(column, line), column.width, right=column.right)
            # Dim and reversed at once cannot be read on many terminals.
            if chosen:
                style = cursor
            cells.append(Segment(text, style))
            if place < len(columns) - 1:
                cells.append(Segment(" " * GAP, cursor if chosen else self.rich_style))
        return cells

    def _strip(self, cells: list[Segment], width: int, y: int = 0) -> Strip:
        strip = Strip(cells).adjust_cell_length(width - 1, self.rich_style)
        return Strip([*strip, Segment(self._bar(y), self._style("bar"))])

    def _bar(self, y: int) -> str:
        """The part of the record that the screen shows, by key: the record's own length is never counted."""
        first, last = self.span
        lines = self.window.lines
        if y < 1 or last - first < self.room or not lines:
            return " "
        shown = lines[self.top : self.top + self.room]
        # While it follows, the bar is at the end, however old the last row that meets the filter is.
        low = (shown[0].first - first) / (last - first + 1)
        high = 1.0 if self.at_end else (shown[-1].row.seq - first + 1) / (last - first + 1)
        start, end = int(low * self.room), max(int(low * self.room) + 1, round(high * self.room))
        if self.at_end:
            start = min(start, self.room - 1)
        return "\u2588" if start <= y - 1 < end else "\u2502"

    def _style(self, tone: str) -> Style:
        return self.get_component_rich_style(f"rows--{tone}" if tone in _TONES else "rows--bad")

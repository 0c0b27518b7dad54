"""The two lines above the table: which record, how much of it, whether it follows; and what happened by the minute."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from rich.text import Text
from textual.widget import Widget

from egress.viewer.activity import Activity, bars
from egress.viewer.columns import SIGNS
from egress.viewer.text import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_MINUTES: Final = 60
_WIDE: Final = 110


class Header(Widget):
    """Draws what the app tells it: set the attributes, then `refresh`."""

    DEFAULT_CSS = """
    Header { height: 2; }
    """

    def __init__(self, path: str, policy: str | None) -> None:
        super().__init__()
        self.path = path
        self.policy = policy
        self.count = 0
        self.follows = True
        self.behind = 0
        self.busy = ""
        self.grouped = False
        self.activity = Activity()

    def render(self) -> RenderableType:
        """Both lines."""
        width = self.size.width
        return Text("\n").join([self._first(width), self._second(width)])

    def _first(self, width: int) -> Text:
        name = shown(PurePath(self.path).name, 40) if width < _WIDE else shown(self.path, 60)
        state = self.busy or self._state()
        left = Text.assemble(("egress audit", "bold"), "  ", name, ("  " + f"{self.count:,} rows", "dim"))
        if self.policy is not None:
            left.append(f"  policy {shown(PurePath(self.policy).name, 24)}", "dim")
        if self.grouped:
            left.append("  grouped")
        left.truncate(max(0, width - len(state) - 2), overflow="ellipsis")
        left.append(" " * max(1, width - left.cell_len - len(state)))
        left.append(state, "bold")
        return left

    def _state(self) -> str:
        if self.follows:
            return "\u25cf following"
        return f"\u2016 held, {self.behind:,} new" if self.behind else "\u2016 held"

    def _second(self, width: int) -> Text:
        # Two graphs of as many minutes as there is room for, beside the figures and the words.
        minutes = min(_MOST_MINUTES, max(5, (width - 40) // 2))
        counts = self.activity.shown(minutes)
        allowed, other = [one for one, _ in counts], [two for _, two in counts]
        text = Text(no_wrap=True)
        # Each graph has its own scale: a few denials among many requests are what one looks for.
        text.append(f"{SIGNS['allow']} {sum(allowed):,} ", "green")
        text.append(bars(allowed), "green")
        text.append(f"  {SIGNS['deny']} {sum(other):,} ", "bold red")
        text.append(bars(other), "red")
        at = self.activity.last_minute
        if at is not None:
            clock = datetime.fromtimestamp(at * 60, UTC).astimezone()
            text.append(f"  {minutes} min to {clock:%H:%M}", "dim")
        text.truncate(width, overflow="ellipsis")
        return text

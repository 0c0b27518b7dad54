"""The table of `egress audit` on a terminal: as many columns as its width has room for, the destination first.

Cells are `rich.text.Text`, never markup, and their text has passed `printable`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egress.audit import printable
from egress.audit.figures import show_duration
from egress.audit.lines import (
    IMPLIED_PORTS,
    clock_text,
    destination,
    has_failed,
    moment,
    rule_place,
    status_text,
    traffic_text,
)
from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.audit import AuditRow

_GAP: Final = 2
_DESTINATION_LEAST: Final = 26
_VERDICT_STYLES = {"allow": "green", "deny": "bold red", "ask": "yellow"}
_REASON_STYLES = {
    Reason.PLACEHOLDER_MISDIRECTED.value: "bold white on red",
    Reason.WOULD_DENY.value: "bold black on yellow",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, the text of a row's cell, its widest, and its rank (the highest is dropped first).

    `least` is room kept for rows that come later.
    """

    title: str
    cell: Callable[[AuditRow], str]
    widest: int
    rank: int = 0
    justify: Literal["left", "right"] = "left"
    style: Callable[[AuditRow], str] = lambda _: ""
    least: int = 0


def _day_and_clock(row: AuditRow) -> str:
    return f"{moment(row.time_us).astimezone():%m-%d %H:%M:%S}"


def _status_style(row: AuditRow) -> str:
    if row.state == "open":
        return "cyan"
    return "red" if has_failed(row) else ""


def _reason(row: AuditRow) -> str:
    """Why: the decision's reason, or the code of what went wrong after it; what only a report let pass stays that."""
    if row.reason == Reason.WOULD_DENY.value:
        return row.reason
    return row.error.partition(": ")[0] if row.error and row.verdict == "allow" else row.reason


def _reason_style(row: AuditRow) -> str:
    # Somebody sends what is a credential for all that they know: rare, and never harmless.
    return _REASON_STYLES.get(_reason(row), "")


def _verdict_style(row: AuditRow) -> str:
    # What passed though the policy refuses it must not look like what it allows.
    return _reason_style(row) if row.reason == Reason.WOULD_DENY.value else _VERDICT_STYLES.get(row.verdict, "")


def _destination(row: AuditRow) -> str:
    """Without the port that the scheme implies, so that more of the path is seen; a bare destination keeps it."""
    implied = row.path is not None and row.port == IMPLIED_PORTS.get(row.scheme or "")
    shown = replace(row, port=None) if implied else row
    if row.rewritten is None:
        return destination(shown)
    # The host that was asked for, then where the request went.
    asked = destination(replace(shown, path=None, query=None))
    return f"{asked} -> {row.rewritten.partition('://')[2]}"


def _verdict(row: AuditRow) -> str:
    """With the number of decisions that the row stands for, where they are several."""
    return row.verdict if row.count == 1 else f"{row.verdict} x{row.count}"


def _rule(row: AuditRow) -> str:
    place = rule_place(row)
    return "" if place is None else PurePath(place).name


_DESTINATION = Column("destination", _destination, 200)
_COLUMNS = (
    Column("verdict", _verdict, 12, style=_verdict_style),
    Column("sandbox", lambda row: row.sandbox, 16, 1),
    Column("method", lambda row: row.method or "", 8, least=7),
    _DESTINATION,
    Column("status", status_text, 6, justify="right", style=_status_style),
    Column("reason", _reason, 23, style=_reason_style),
    Column("rule", _rule, 26, 2),
    Column("up/down", traffic_text, 11, 5, "right"),
    Column("took", lambda row: show_duration(row.duration_us), 6, 4, "right"),
    Column("secrets", lambda row: ",".join(row.secrets), 20, 3),
)


class AuditTable:
    """Fixes the columns and their widths by the first rows, so that rows that come later stand below them."""

    def __init__(self, rows: Sequence[AuditRow], console: Console | None = None) -> None:
        self._console = console or Console(markup=False, highlight=False, emoji=False)
        today = datetime.now().astimezone().date()
        is_today = all(moment(row.time_us).astimezone().date() == today for row in rows)
        clock = Column("time", clock_text, 8) if is_today else Column("time", _day_and_clock, 14)
        self._columns = [clock, *_COLUMNS]
        self._widths = {column.title: _natural_width(column, rows) for column in self._columns}
        self._hidden: list[str] = []
        self._fit()

    def show(self, rows: Sequence[AuditRow], *, header: bool) -> None:
        """Print the rows, below their titles if `header`."""
        table = Table(box=None, show_header=header, header_style="dim", padding=(0, _GAP, 0, 0), pad_edge=False)
        for column in self._columns:
            table.add_column(
                Text(column.title),
                width=self._widths[column.title],
                justify=column.justify,
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in rows:
            table.add_row(*(Text(printable(column.cell(row)), column.style(row)) for column in self._columns))
        self._console.print(table)

    def show_footer(self, count: int) -> None:
        """Say how many rows there are, and what the terminal's width has hidden."""
        words = f"{count} row{'' if count == 1 else 's'}"
        if self._hidden:
            words += f"; no room for {', '.join(self._hidden)}: see --json"
        self._console.print(Text(words, "dim"))

    def _fit(self) -> None:
        """Drop columns until the rest fits, then let the destination have what is left."""
        wanted = self._widths[_DESTINATION.title]
        least = min(wanted, _DESTINATION_LEAST)
        self._widths[_DESTINATION.title] = least
        while self._spare() < 0 and (droppable := [column for column in self._columns if column.rank]):
            dropped = max(droppable, key=lambda column: column.rank)
            self._columns.remove(dropped)
            self._hidden.insert(0, dropped.title)
        self._widths[_DESTINATION.title] = max(8, min(wanted, least + self._spare()))

    def _spare(self) -> int:
        used = sum(self._widths[column.title] + _GAP for column in self._columns) - _GAP
        return self._console.width - used


def _natural_width(column: Column, rows: Sequence[AuditRow]) -> int:
    widest = max((cell_len(printable(column.cell(row))) for row in rows), default=column.widest)
    return max(len(column.title), column.least, min(column.widest, widest))

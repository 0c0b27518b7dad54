"""The columns of the table: what a row says in each, how wide they are, and which go first where there is no room."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from egress.audit.figures import show_duration
from egress.audit.lines import (
    IMPLIED_PORTS,
    clock_text,
    has_failed,
    moment,
    rule_place,
    status_text,
    traffic_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit import AuditRow
    from egress.viewer.window import Line

GAP: Final = 1
# Never colour alone: a verdict has a sign and a word.
SIGNS: Final = {"allow": "\u2713", "deny": "\u2717", "ask": "?"}
# Of the room that is left, host and path share.
_HOST_SHARE: Final = 0.45
_HOST_MOST: Final = 44


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `tone` names the style of a cell; `rank`: of those that are left out, the highest goes first."""

    title: str
    cell: Callable[[AuditRow], str]
    width: int
    rank: int = 0
    right: bool = False
    tone: Callable[[AuditRow], str] = lambda _: ""


def verdict_text(verdict: str) -> str:
    """The verdict with its sign."""
    return f"{SIGNS.get(verdict, '!')} {verdict}"


def host_text(row: AuditRow) -> str:
    """The host, with the port where the scheme does not imply it."""
    host = row.host or "-"
    host = f"[{host}]" if ":" in host else host
    implied = row.port is None or row.port == IMPLIED_PORTS.get(row.scheme or "")
    return host if implied else f"{host}:{row.port}"


def path_text(row: AuditRow) -> str:
    """Path and query; where a request went instead, if a rule sent it elsewhere."""
    if row.rewritten is not None:
        return f"-> {row.rewritten.partition('://')[2]}"
    return (row.path or "") + ("" if row.query is None else f"?{row.query}")


def why_text(row: AuditRow) -> str:
    """What went wrong after an allow; else the rule that spoke, by its name or place; else the reason."""
    if row.verdict == "allow":
        if row.error:
            return row.error.partition(": ")[0]
        place = rule_place(row)
        return row.rule or (row.reason if place is None else PurePath(place).name)
    return row.reason


def _status_tone(row: AuditRow) -> str:
    if row.state == "open":
        return "open"
    return "bad" if has_failed(row) else ""


def _day_and_clock(row: AuditRow) -> str:
    return f"{moment(row.time_us).astimezone():%b %d %H:%M}"


def _day_and_seconds(row: AuditRow) -> str:
    return f"{moment(row.time_us).astimezone():%b %d %H:%M:%S}"


def is_today(row: AuditRow) -> bool:
    """Whether the row is of this day, by the clock on the wall."""
    return moment(row.time_us).astimezone().date() == datetime.now().astimezone().date()


_HOST = Column("host", host_text, 16)
_PATH = Column("path", path_text, 14, tone=lambda _: "quiet")
_COLUMNS: Final = (
    Column("verdict", lambda row: verdict_text(row.verdict), 7, tone=lambda row: row.verdict),
    Column("sandbox", lambda row: row.sandbox, 12, 3),
    Column("method", lambda row: row.method or "", 7, 1),
    _HOST,
    _PATH,
    Column("rule or reason", why_text, 16, 2, tone=lambda row: row.verdict if row.verdict != "allow" else ""),
    Column("stat", status_text, 4, right=True, tone=_status_tone),
    Column("took", lambda row: show_duration(row.duration_us), 6, 4, right=True),
    Column("up/down", traffic_text, 11, 5, right=True, tone=lambda _: "quiet"),
)
_TIMES: Final = {
    "clock": Column("time", clock_text, 8, tone=lambda _: "quiet"),
    "day": Column("time", _day_and_clock, 12, tone=lambda _: "quiet"),
    "all": Column("time", _day_and_seconds, 15, tone=lambda _: "quiet"),
}
_NEEDED: Final = 2
_SLACK: Final = 10
_WIDE_WHY: Final = 24
_WIDE: Final = 110


def layout(width: int, *, days: bool = False) -> list[Column]:
    """The columns that a width has room for, at their widths. `days`: not all rows are of today."""
    time = "clock" if not days else "all" if width >= _WIDE else "day"
    columns = [_TIMES[time], *_COLUMNS]
    # Host and path give way a little before a column goes that tells what was decided.
    while _spare(columns, width) < (0 if (last := max(columns, key=_rank)).rank > _NEEDED else -_SLACK) and last.rank:
        columns.remove(last)
    spare = _spare(columns, width)
    more_why = max(0, min(spare // 3, _WIDE_WHY - 16))
    left = max(0, spare - more_why + _HOST.width + _PATH.width)
    host = min(max(min(_HOST.width, left - 1), int(left * _HOST_SHARE)), _HOST_MOST)
    widths = {"host": max(1, host), "path": max(1, left - host), "rule or reason": 16 + more_why}
    return [replace(column, width=widths.get(column.title, column.width)) for column in columns]


def cell_text(column: Column, line: Line) -> str:
    """What stands in the cell; repeats are told before the path."""
    text = column.cell(line.row)
    return f"\u00d7{line.count} {text}" if line.count > 1 and column.title == "path" else text


def _rank(column: Column) -> int:
    return column.rank


def _spare(columns: list[Column], width: int) -> int:
    return width - sum(column.width for column in columns) - GAP * (len(columns) - 1)

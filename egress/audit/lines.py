"""One audit row as a line of text, and the cells that all tables show alike.

INVARIANT hostile-text: one row is one line, whatever the wire sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.audit.figures import show_bytes
from egress.audit.json_row import json_line, moment, utc
from egress.audit.text import printable

if TYPE_CHECKING:
    from egress.audit.reader import AuditRow

__all__ = [
    "IMPLIED_PORTS",
    "clock_text",
    "destination",
    "has_failed",
    "json_line",
    "moment",
    "plain_line",
    "rule_place",
    "status_text",
    "traffic_text",
    "utc",
]

IMPLIED_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_FAILED: Final = 400


def destination(row: AuditRow) -> str:
    """`host:port/path?query`, with what is known of it; brackets around an IPv6 address."""
    host = row.host or "-"
    host = f"[{host}]" if ":" in host else host
    port = "" if row.port is None else f":{row.port}"
    query = "" if row.query is None else f"?{row.query}"
    return f"{host}{port}{row.path or ''}{query}"


def rule_place(row: AuditRow) -> str | None:
    """`file:line` of the rule that spoke; its name if it has no file."""
    if row.file is None:
        return row.rule
    return row.file if row.line is None else f"{row.file}:{row.line}"


def clock_text(row: AuditRow) -> str:
    """The time of day, by the clock on the wall."""
    return f"{moment(row.time_us).astimezone():%H:%M:%S}"


def status_text(row: AuditRow) -> str:
    """The upstream's status; `open` while there is none to come yet."""
    if row.state == "open":
        return "open"
    return "" if row.status is None else str(row.status)


def has_failed(row: AuditRow) -> bool:
    """Whether something went wrong after the decision, or the upstream says so."""
    return bool(row.error) or (row.status or 0) >= _FAILED


def traffic_text(row: AuditRow) -> str:
    """Bytes up and down."""
    return "" if row.bytes_up is None else f"{show_bytes(row.bytes_up)}/{show_bytes(row.bytes_down)}"


def plain_line(row: AuditRow) -> str:
    """The stable fields of a row with tabs between; `-` for nothing. Fields are added at the end, never moved."""
    values = (
        utc(row.time_us),
        row.id,
        row.state,
        row.verdict,
        row.sandbox,
        row.method,
        destination(row),
        row.status,
        row.reason,
        rule_place(row),
        row.bytes_up,
        row.bytes_down,
        row.duration_us,
        ",".join(row.secrets),
        row.error,
        row.labels,
        row.rewritten,
        row.count,
    )
    return "\t".join("-" if value is None or value == "" else printable(str(value)) for value in values)

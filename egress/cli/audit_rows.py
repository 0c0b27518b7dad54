"""One audit row as a line of text or JSON. INVARIANT hostile-text: one row is one line, whatever the wire sent."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.audit import printable

if TYPE_CHECKING:
    from egress.audit import AuditRow

_FIRST_US = -62_135_596_800_000_000  # year 1
_LAST_US = 253_402_300_799_000_000  # year 9999


def moment(time_us: int) -> datetime:
    """The time of a row in UTC; one that no calendar has becomes the nearest that it has."""
    seconds, micros = divmod(min(max(time_us, _FIRST_US), _LAST_US), 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def utc(time_us: int) -> str:
    """RFC 3339 with microseconds: `2026-11-20T10:00:00.000000Z`."""
    return moment(time_us).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


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


def json_line(row: AuditRow) -> str:
    """Every column of the view, and `time` in RFC 3339; ASCII only, so that no control character survives."""
    return json.dumps({"time": utc(row.time_us), **asdict(row), "labels": _labels(row.labels)}, ensure_ascii=True)


def _labels(text: str | None) -> dict[str, str]:
    """The labels by name; what is no JSON object (another program's) under an empty name."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {"": text}
    return found if isinstance(found, dict) else {"": text}


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
    )
    return "\t".join("-" if value is None or value == "" else printable(str(value)) for value in values)

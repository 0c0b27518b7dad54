"""A row as JSON, the same object wherever a program reads it.

INVARIANT hostile-text: ASCII only, and one row is one line.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from egress.audit.reader import AuditRow

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_US = -62_135_596_800_000_000  # year 1
_LAST_US = 253_402_300_799_000_000  # year 9999
_ENCODE = json.JSONEncoder(ensure_ascii=True, check_circular=False).encode
COLUMNS = tuple(field.name for field in fields(AuditRow))


def moment(time_us: int) -> datetime:
    """The time of a row in UTC; one that no calendar has becomes the nearest that it has."""
    seconds, micros = divmod(min(max(time_us, _FIRST_US), _LAST_US), 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def utc(time_us: int) -> str:
    """RFC 3339 with microseconds: `2026-11-20T10:00:00.000000Z`."""
    return moment(time_us).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def object_of(text: str | None) -> dict[str, Any]:
    """What a column of a JSON object holds; what is none (another program's) under an empty name."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {"": text}
    return found if isinstance(found, dict) else {"": text}


def ip_text(text: str | None) -> str | None:
    """The IP address that the text is; None if it is none."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def json_line(row: AuditRow) -> str:
    """Every column of the view, and `time` in RFC 3339."""
    values = {column: getattr(row, column) for column in COLUMNS}
    return encode({"time": utc(row.time_us), **values, "labels": object_of(row.labels), "trace": object_of(row.trace)})


def encode(value: Mapping[str, Any]) -> str:
    """JSON in ASCII on one line, so that no control character survives."""
    return _ENCODE(value)

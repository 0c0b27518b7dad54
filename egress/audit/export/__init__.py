"""The record in formats of other tools, streamed: rows in, text out, never more than one row in memory.

No format has a secret's value, as no row has one. Text that a client sent stays as it is stored: escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.audit.export.csv_table import csv_table
from egress.audit.export.har import har_log
from egress.audit.export.ocsf import ocsf_events
from egress.audit.json_row import json_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from egress.audit.reader import AuditRow

type Write = Callable[[Iterable[AuditRow]], Iterator[str]]


def json_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    """One object a line, as `egress audit --json` prints them."""
    for row in rows:
        yield json_line(row) + "\n"


WRITERS: Mapping[str, Write] = {"jsonl": json_lines, "csv": csv_table, "ocsf": ocsf_events, "har": har_log}

__all__ = ["WRITERS", "Write", "csv_table", "har_log", "json_lines", "ocsf_events"]

"""CSV (RFC 4180) with a line of titles: `time` in RFC 3339, then the columns of the view `requests`.

A cell that a spreadsheet would take for a formula gets an apostrophe in front: a client picks the path that it asks
for, and `=HYPERLINK(...)` in a reviewer's spreadsheet would be its code on another machine.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Final

from egress.audit.json_row import COLUMNS, utc
from egress.audit.text import storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.audit.reader import AuditRow

# What spreadsheets begin a formula with, also in full width, and what they skip before it.
_FORMULA: Final = tuple("=+-@\t\r\n \u00a0＝＋－＠")  # noqa: RUF001 -- these are the letters meant
_LONGEST: Final = 1 << 20


def csv_table(rows: Iterable[AuditRow]) -> Iterator[str]:
    """The titles, then a line for each row."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\r\n")
    writer.writerow(["time", *COLUMNS])
    for row in rows:
        yield _taken(line)
        writer.writerow([utc(row.time_us), *(_cell(getattr(row, column)) for column in COLUMNS)])
    yield _taken(line)


def no_formula(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cell(value: str | int | tuple[str, ...] | None) -> str | int:
    if value is None:
        return ""
    if isinstance(value, int):
        return value
    return no_formula(storable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _LONGEST))


def _taken(line: io.StringIO) -> str:
    text = line.getvalue()
    line.seek(0)
    line.truncate()
    return text

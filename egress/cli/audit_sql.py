"""`egress audit sql`: a SELECT of one's own over the record."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from egress.cli.options import AuditFile, StateDir, audit_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.audit.sql import Allowance

Statement = Annotated[str, typer.Argument(metavar="SELECT", help="One statement that reads.")]
Format = Annotated[
    Literal["table", "csv", "json"], typer.Option("--format", help="Columns, CSV, or one JSON object a line.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, max=3600, metavar="SECONDS", help="How long the statement may run.")
]
# Rows whose widths a table is laid out by.
_LAID_OUT = 1_000
# What a statement may take beyond its time before the process is ended: SQLite stops between two steps only, and one
# call of a function (`instr`, `replace`) over long texts can take for ever, in which no signal is heard either.
_GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.1


def register(app: typer.Typer) -> None:
    """Add `sql` to the `audit` commands."""
    app.command("sql")(sql)


def sql(
    statement: Statement,
    *,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
    output_format: Format = "table",
    timeout: Timeout = 30.0,
) -> None:
    """Ask the record a question of your own; it is opened read-only.

    \b
    Examples:
      egress audit sql "SELECT host, count(*) FROM requests WHERE verdict = 'deny' GROUP BY host"
      egress audit sql --format csv "SELECT * FROM events" > events.csv

    The view `requests` has a row for each request, `events` what happened to the proxy.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.audit import AuditReader  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.audit.sql import Allowance  # noqa: PLC0415 -- as above

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    allowance = Allowance(timeout)
    with AuditReader(audit_database(audit_file, state_dir)) as reader, _ending(allowance):
        rows = reader.sql(statement, allowance)
        names = [str(name) for name in next(rows)]
        _WRITERS[output_format](names, rows)


@contextlib.contextmanager
def _ending(allowance: Allowance) -> Iterator[None]:
    """Within, the process ends where the statement does not."""
    over = threading.Event()
    threading.Thread(target=_watch, args=(allowance, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(allowance: Allowance, over: threading.Event) -> None:
    while not over.wait(max(allowance.left() + _GRACE_SECONDS, _LOOK_SECONDS)):
        if allowance.left() < -_GRACE_SECONDS:
            _end(allowance.seconds)


def _end(seconds: float) -> None:
    try:
        sys.stderr.write(f"egress: the statement took over {seconds:g} seconds, and was ended\n")
        sys.stderr.flush()
    finally:
        # Also where nobody hears it any more.
        os._exit(1)


def _write_csv(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    from egress.audit.export.csv_table import no_formula  # noqa: PLC0415 -- as above

    def cell(value: object) -> str:
        return no_formula(_shown(value)) if isinstance(value, str) else _shown(value)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(cell, names))
    writer.writerows(map(cell, row) for row in rows)


def _write_json(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    for row in rows:
        plain = {
            name: value.hex() if isinstance(value, bytes) else value for name, value in zip(names, row, strict=True)
        }
        sys.stdout.write(json.dumps(plain) + "\n")


def _write_table(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    held = [tuple(names)]
    for row in rows:
        held.append(tuple(_shown(value) for value in row))
        if len(held) > _LAID_OUT:
            break
    widths = [max(len(row[place]) for row in held) for place in range(len(names))]
    for row in held:
        _write_line(row, widths)
    for row in rows:
        _write_line([_shown(value) for value in row], widths)


def _write_line(row: Sequence[str], widths: Sequence[int]) -> None:
    sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def _shown(value: object) -> str:
    from egress.audit import printable  # noqa: PLC0415 -- as above

    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else printable(str(value))


_WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json}

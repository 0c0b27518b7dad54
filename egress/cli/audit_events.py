"""`egress audit --events`: what happened beside requests, as a table, as lines or as JSON, and what comes."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.audit import AuditReader, EventRow, Filter

_POLL_SECONDS = 0.25
_KIND_WIDTH: Final = 17


def show_events(reader: AuditReader, wanted: Filter, limit: int, *, follow: bool, as_json: bool, plain: bool) -> None:
    """Print the newest events since the filter's moment, which is all that it may ask. Raises BadParameter."""
    if any(term.field != "since" or term.negated for term in wanted.terms):
        raise typer.BadParameter("events have a time only: use --since, --limit and --follow", param_hint="--events")
    batches = _batches(reader, wanted.since_us or 0, limit, follow=follow)
    if as_json or plain or not sys.stdout.isatty():
        _write_lines(batches, as_json=as_json)
    else:
        _write_table(batches, follow=follow)


def event_json(row: EventRow) -> str:
    """Every column of the row, and `time` in RFC 3339; ASCII only."""
    from dataclasses import asdict  # noqa: PLC0415 -- `egress --help` needs none of it

    from egress.cli.audit_rows import utc  # noqa: PLC0415 -- as above

    return json.dumps({"time": utc(row.time_us), **asdict(row)}, ensure_ascii=True)


def event_line(row: EventRow) -> str:
    """Time, id, kind and detail with tabs between; `-` for nothing."""
    from egress.audit import printable  # noqa: PLC0415 -- as above
    from egress.cli.audit_rows import utc  # noqa: PLC0415 -- as above

    return "\t".join(printable(text) or "-" for text in (utc(row.time_us), row.id, row.kind, row.detail))


def _batches(reader: AuditReader, since_us: int, limit: int, *, follow: bool) -> Iterator[list[EventRow]]:
    yield reader.newest_events(since_us, limit=limit)
    while follow:
        time.sleep(_POLL_SECONDS)
        if rows := reader.arrived_events(since_us):
            yield rows


def _write_lines(batches: Iterator[list[EventRow]], *, as_json: bool) -> None:
    line = event_json if as_json else event_line
    for rows in batches:
        sys.stdout.writelines(f"{line(row)}\n" for row in rows)
        sys.stdout.flush()


def _write_table(batches: Iterator[list[EventRow]], *, follow: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 -- slow to load
    from rich.table import Table  # noqa: PLC0415 -- as above
    from rich.text import Text  # noqa: PLC0415 -- as above

    from egress.audit import printable  # noqa: PLC0415 -- as above
    from egress.cli.audit_rows import moment  # noqa: PLC0415 -- as above

    console = Console(markup=False, highlight=False, emoji=False)
    header = True
    for rows in batches:
        if not rows and not follow:
            typer.echo("no events", err=True)
        table = Table(box=None, show_header=header, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(Text("time"), width=14, no_wrap=True)
        table.add_column(Text("event"), width=_KIND_WIDTH, no_wrap=True, overflow="ellipsis")
        # A sentence: what a narrow terminal has no room for goes on below.
        table.add_column(Text("detail"), overflow="fold")
        for row in rows:
            clock = f"{moment(row.time_us).astimezone():%m-%d %H:%M:%S}"
            table.add_row(Text(clock), Text(printable(row.kind)), Text(printable(row.detail)))
        if rows or follow:
            console.print(table)
        header = False

"""What `egress audit` prints: rows as a table, as lines or as JSON, events, and what comes while it follows."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from egress.cli import audit_events
from egress.cli.audit_filter import is_refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from egress.audit import AuditReader, AuditRow, Filter

_POLL_SECONDS = 0.25
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Printing:
    """`limit`: how many of the newest rows. `fail_on_deny`: a refusal among what is asked for ends in exit code 1."""

    limit: int
    follow: bool
    as_json: bool
    plain: bool
    events: bool
    group: bool
    fail_on_deny: bool


def print_audit(database: Path, wanted: Filter, how: Printing) -> None:
    """Print what is there, then, following, what comes. Raises AuditError, and typer.Exit for another code than 0."""
    from egress.audit import AuditReader  # noqa: PLC0415 -- `egress --help` needs none of it

    try:
        # What the terminal cannot encode is escaped rather than an error in the middle of a table.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        with AuditReader(database) as reader:
            if how.events:
                _refuse_beside_events(group=how.group, fail_on_deny=how.fail_on_deny)
                audit_events.show_events(
                    reader, wanted, how.limit, follow=how.follow, as_json=how.as_json, plain=how.plain
                )
            else:
                _print_rows(reader, wanted, how)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse_beside_events(**given: bool) -> None:
    for name, is_given in given.items():
        if is_given:
            raise typer.BadParameter(
                "this is about requests, not about events", param_hint=f"--{name.replace('_', '-')}"
            )


def _print_rows(reader: AuditReader, wanted: Filter, how: Printing) -> None:
    batches = _batches(reader, wanted, how.limit, follow=how.follow)
    if how.group:
        batches = _grouped(batches)
    if how.as_json or how.plain or not sys.stdout.isatty():
        _write_lines(batches, as_json=how.as_json)
    else:
        _write_table(batches, wanted, follow=how.follow)
    if how.fail_on_deny and is_refused(reader, wanted):
        raise typer.Exit(1)


def _grouped(batches: Iterator[list[AuditRow]]) -> Iterator[list[AuditRow]]:
    """Each list with its repeats as one row."""
    from egress.audit import as_rows, repeats  # noqa: PLC0415 -- as above

    for rows in batches:
        yield list(as_rows(repeats(rows)))


def _batches(reader: AuditReader, wanted: Filter, limit: int, *, follow: bool) -> Iterator[list[AuditRow]]:
    """The rows that are there, then, following, those that come, a list each time."""
    yield reader.newest(wanted, limit=limit)
    while follow:
        time.sleep(_POLL_SECONDS)
        if rows := reader.arrived(wanted):
            yield rows


def _write_lines(batches: Iterator[list[AuditRow]], *, as_json: bool) -> None:
    from egress.cli.audit_rows import json_line, plain_line  # noqa: PLC0415 -- as above

    line = json_line if as_json else plain_line
    for rows in batches:
        sys.stdout.writelines(f"{line(row)}\n" for row in rows)
        sys.stdout.flush()


def _write_table(batches: Iterator[list[AuditRow]], wanted: Filter, *, follow: bool) -> None:
    from egress.audit import Filter  # noqa: PLC0415 -- as above
    from egress.cli.audit_table import AuditTable  # noqa: PLC0415 -- loads rich

    rows = next(batches)
    table = AuditTable(rows)
    if rows or follow:
        table.show(rows, header=True)
    if not follow:
        if rows:
            table.show_footer(len(rows))
        else:
            typer.echo("no rows yet" if wanted == Filter() else "no rows match", err=True)
    for more in batches:
        table.show(more, header=False)

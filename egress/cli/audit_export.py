"""`egress audit export`: the record, or what a filter gives of it, in formats of other tools."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from egress.cli.audit_filter import FilterText, Host, Reason, Sandbox, Since, VerdictOption, read_filter
from egress.cli.options import AuditFile, StateDir, audit_database
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from egress.audit import AuditReader, AuditRow, Filter
    from egress.audit.pages import Page

Format = Annotated[
    Literal["jsonl", "csv", "ocsf", "har"],
    typer.Option(
        "--format", help="JSON lines, CSV, OCSF 1.6 (JSON lines), or HAR 1.2 for a browser's developer tools."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Written whole or not at all, for you alone; compressed if it ends in `.gz`. Default: standard output.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add `export` to the `audit` commands."""
    app.command("export")(export)


def export(
    *,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
    output_format: Format = "jsonl",
    output: Output = None,
    filters: FilterText = None,
    verdict: VerdictOption = None,
    host: Host = None,
    sandbox: Sandbox = None,
    reason: Reason = None,
    since: Since = None,
) -> None:
    """Give every row that is recorded, oldest first, in a format of other tools.

    \b
    Examples:
      egress audit export --since 1d > rows.jsonl
      egress audit export --format csv --verdict deny --output denied.csv
      egress audit export --format ocsf --filter 'sandbox:ci' --output events.jsonl.gz
      egress audit export --format har --since 10m --output egress.har

    Works beside a running proxy and needs the same memory whatever the size of the record. Rows
    that come meanwhile are left for the next time.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.audit import AuditReader  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.audit.export import WRITERS  # noqa: PLC0415 -- likewise

    wanted = read_filter(filters, verdict=verdict, host=host, sandbox=sandbox, reason=reason, since=since)
    write = WRITERS[output_format]
    with AuditReader(audit_database(audit_file, state_dir)) as reader:
        if output is None:
            _to_stdout(write(_rows(reader, wanted, lambda _: None)))
        else:
            with _progress() as show, whole_file(output) as file:
                file.writelines(write(_rows(reader, wanted, show)))


def _rows(reader: AuditReader, wanted: Filter, show: Callable[[Page], object]) -> Iterator[AuditRow]:
    from egress.audit.pages import pages  # noqa: PLC0415 -- as above

    for page in pages(reader, wanted):
        yield from page.rows
        show(page)


def _to_stdout(pieces: Iterator[str]) -> None:
    # CSV has line ends of its own, which must not be changed; what is not ASCII is UTF-8, whatever the terminal has.
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")  # type: ignore[union-attr]
    try:
        sys.stdout.writelines(pieces)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that is at `path` with mode 0600 once all of it is written, and not there otherwise.

    Raises StateError where it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
    except OSError as error:
        raise StateError(f"cannot write `{path}`: {error.strerror}", hint="name a file in a folder of yours") from error
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as raw:  # noqa: PTH123 -- a descriptor, not a path
            with _text_on(raw, compressed=path.suffix == ".gz") as file:
                yield file
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StateError(f"cannot write `{path}`: {error.strerror}", hint="free some space, or name another") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _text_on(raw: IO[bytes], *, compressed: bool) -> Iterator[IO[str]]:
    if not compressed:
        plain = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", newline="")
        yield plain
        plain.flush()
        plain.detach()
        return
    # Without name and time, the same rows give the same file.
    with (
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", errors="backslashreplace", newline="") as text,
    ):
        yield text


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Page], object]]:
    """A bar for a person who waits; what it shows goes to standard error."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 -- loads rich
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn  # noqa: PLC0415 -- likewise

    columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress("reading the record", *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda page: progress.update(task, completed=page.done, total=page.total)

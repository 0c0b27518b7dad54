"""`egress audit verify`: whether the record is as it was written, and where it is not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from egress.cli.options import AuditFile, StateDir, audit_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit import AuditReader
    from egress.audit.verify import Expected, Report

Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="PEM", help="The proxy's public key, audit-key.pub.pem: no other key's word counts."),
]
Expect = Annotated[
    list[str] | None,
    typer.Option(
        "--expect",
        metavar="BATCH:HASH",
        help="A checkpoint that was written down elsewhere. May be repeated.",
        show_default=False,
    ),
]
Indexes = Annotated[
    bool,
    typer.Option("--indexes", help="Compare the indexes with the rows as well: takes longer."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
_HASH_DIGITS = 64
# Rows that one process verifies in the time that others take to start, several times over.
_LARGE = 200_000
_PROCESSES_AT_MOST = 8


def register(app: typer.Typer) -> None:
    """Add `verify` to the `audit` commands."""
    app.command("verify")(verify)


def verify(
    *,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
    key: Key = None,
    expect: Expect = None,
    indexes: Indexes = False,
    as_json: AsJson = False,
) -> None:
    """Find out whether the record was edited, cut, or added to since the proxy wrote it; exit 1 if it was.

    \b
    Examples:
      egress audit verify
      egress audit verify --key audit-key.pub.pem --audit copy-of-audit.db
      egress audit verify --indexes
      egress audit verify --expect 812:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

    Without --key the file itself says which keys signed it, which whoever changed the file may
    have changed as well.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.audit import AuditReader  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.audit.signing import read_public  # noqa: PLC0415 -- likewise

    public = None if key is None else read_public(key)
    expected = [_expected(text) for text in expect or ()]
    with AuditReader(audit_database(audit_file, state_dir)) as reader:
        report = reader.verify(
            key=public, expected=expected, progress=_progress(as_json=as_json), processes=_processes(reader)
        )
        for problem in reader.damaged_indexes() if indexes else ():
            report.found(f"SQLite: {problem}")
    if as_json:
        typer.echo(json.dumps(_plain(report)))
    else:
        _tell(report)
    if not report.holds:
        raise typer.Exit(1)


def _processes(reader: AuditReader) -> int:
    """One for each processor that we may use; just this one where starting others takes longer than the work."""
    large = reader.rows_at_most > _LARGE
    return min(len(os.sched_getaffinity(0)), _PROCESSES_AT_MOST) if large else 1


def _expected(text: str) -> Expected:
    from egress.audit.verify import Expected  # noqa: PLC0415 -- as above

    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != _HASH_DIGITS:
        raise typer.BadParameter("write the batch's number, a colon, and its hash of 64 digits", param_hint="--expect")
    try:
        return Expected(int(number), bytes.fromhex(digest))
    except ValueError:
        raise typer.BadParameter("the hash is not hexadecimal", param_hint="--expect") from None


def _progress(*, as_json: bool) -> Callable[[int], object]:
    """Tell a person who waits how far it is."""
    if as_json or not sys.stderr.isatty():
        return lambda _: None
    return lambda rows: sys.stderr.write(f"\r{rows:,} rows verified")


def _tell(report: Report) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    for problem in report.problems:
        typer.echo(f"✗ {problem}")
    if report.more:
        typer.echo(f"✗ and {report.more:,} more")
    word = "The record holds" if report.holds else "The record does not hold"
    typer.echo(f"{word}: {report.rows:,} rows in {report.batches:,} batches.")
    if report.unchained:
        typer.echo(f"{report.unchained:,} older rows are from before there was a chain; nothing is known of them.")
    if report.dropped:
        typer.echo(f"{report.dropped:,} older rows were dropped, as the proxy's retention says.")
    _tell_signatures(report)
    typer.echo(f"The last batch: {report.last}:{report.digest.hex()}")


def _tell_signatures(report: Report) -> None:
    if not report.checkpoints:
        typer.echo("No checkpoint is signed: who changed the file may have made the whole record anew.")
        return
    whose = "the key that you named" if report.trusted else f"key {', '.join(report.signers)}, as the file itself says"
    rest = report.last - report.signed_to
    open_end = f"; the {rest} after it are not signed yet" if rest else ""
    typer.echo(f"{report.checkpoints:,} checkpoints are signed by {whose}, up to batch {report.signed_to}{open_end}.")


def _plain(report: Report) -> dict[str, Any]:
    return {
        "holds": report.holds,
        "problems": report.problems,
        "more_problems": report.more,
        "rows": report.rows,
        "batches": report.batches,
        "unchained_rows": report.unchained,
        "dropped_rows": report.dropped,
        "checkpoints": report.checkpoints,
        "signed_to": report.signed_to,
        "signers": report.signers,
        "last": {"batch": report.last, "hash": report.digest.hex()},
    }

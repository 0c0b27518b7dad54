"""`egress policy diff`: what changes between two policies, by meaning. Exit 0: nothing. 1: something. 2: trouble."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import ConfigFile, OutputFormat, Presets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.audit import AuditReader
    from egress.config import LoadedPolicy
    from egress.review import Changes, Comparison, Group, Recorded, Replay

_CHANGED = 1
_TROUBLE = 2

_WHAT = "A shipped policy by name, or a policy file; [SCOPE=] before it."
Old = Annotated[str, typer.Argument(metavar="OLD", help=_WHAT, show_default=False)]
New = Annotated[str, typer.Argument(metavar="NEW", help=_WHAT, show_default=False)]
Common = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="[SCOPE=]NAME|FILE",
        help="A policy that stands beside OLD as well as beside NEW. May be repeated.",
        show_default=False,
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against", metavar="AUDIT.db", help="Ask what this audit has recorded, in place of representatives."
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="With --against: `10m`, `2h`, `7d`, or a time: 2026-11-20T10:00:00Z."),
]


def diff(
    old: Old,
    new: New,
    *,
    policy: Common = None,
    presets: Presets = None,
    config: ConfigFile = None,
    against: Against = None,
    since: Since = None,
    output_format: OutputFormat = "text",
) -> None:
    """Compare policies by meaning: what is newly allowed, asked, denied; credentials, headers, TLS. Exit 0: no change.

    \b
    Examples:
      egress policy diff old.yaml policy.yaml
      egress policy diff team=old.yaml team=team.yaml --policy org=org.yaml
      egress policy diff old.yaml policy.yaml --against audit.db --since 7d

    Both are asked requests that stand for all that the files can tell apart: exact for what the files name. With
    --against, what an audit has recorded is asked, also while the proxy writes it.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.loading import find, surroundings  # noqa: PLC0415
    from egress.errors import EgressError  # noqa: PLC0415  # loaded by the command, so that --help is fast

    if since is not None and against is None:
        raise typer.BadParameter("it says how far back --against goes", param_hint="--since")
    try:
        around = surroundings(config, presets)
        before, after = (around.load(around.sources(find([*(policy or ()), text]))) for text in (old, new))
        found = _compare(before, after) if against is None else _replay(before, after, against, since)
    except EgressError as error:
        for problem in getattr(error, "problems", [error]):
            typer.echo(f"egress: {problem}", err=True)
        raise typer.Exit(_TROUBLE) from error
    if output_format == "json":
        typer.echo(json.dumps(found.as_json()))
    else:
        for line in _lines(found):
            typer.echo(line)
    if not found.same:
        raise typer.Exit(_CHANGED)


def _compare(old: LoadedPolicy, new: LoadedPolicy) -> Comparison:
    from egress.review import compare  # noqa: PLC0415

    return compare(old, new)


def _replay(old: LoadedPolicy, new: LoadedPolicy, audit: Path, since: str | None) -> Replay:
    from egress.audit import AuditReader, parse_since  # noqa: PLC0415
    from egress.review import replay  # noqa: PLC0415

    try:
        since_us = 0 if since is None else parse_since(since, time.time_ns() // 1000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    with AuditReader(audit) as reader:
        return replay(_recorded(reader, since_us), old, new)


def _recorded(reader: AuditReader, since_us: int) -> Iterator[Recorded]:
    from dataclasses import asdict  # noqa: PLC0415

    from egress.review import Recorded  # noqa: PLC0415

    return (Recorded(**asdict(row)) for row in reader.asked(since_us))


def _lines(found: Comparison | Replay) -> Iterator[str]:
    from egress.config import printable  # noqa: PLC0415
    from egress.review import Comparison  # noqa: PLC0415

    told = _told(found) if isinstance(found, Comparison) else _replayed(found)
    what = "requests" if isinstance(found, Comparison) else "recorded decisions"
    yield from map(printable, _groups(found.changes, what))
    if not found.same:
        yield ""
    yield from map(printable, told)


def _told(found: Comparison) -> Iterator[str]:
    yield from found.written or ([] if found.changes.groups else ["no change of meaning"])
    yield (
        f"{found.destinations} representative destinations, {found.alike} of them named by the same rules in both; "
        f"{found.requests} representative requests to the others, asked of both"
    )
    yield "exact for the destinations, ports, methods, paths and ranges that the files name; no proof for all others"


def _replayed(found: Replay) -> Iterator[str]:
    if found.same:
        yield "no recorded decision would change"
    unread = f"{found.unread} more cannot be (refused unread, cut, or of a sandbox whose labels are not known)"
    yield f"{found.asked} recorded decisions, asked of both; {unread}"
    yield "header values and the values of queries are not recorded, so rules that ask for them are judged without"


def _groups(changes: Changes, what: str) -> Iterator[str]:
    kind = None
    for group in changes.in_order():
        if group.kind is not kind:
            kind = group.kind
            yield f"{kind.value}:"
        yield f"  old  {group.old}"
        yield f"  new  {group.new}"
        yield f"       {_count(group, what)}, as {group.example}"


def _count(group: Group, what: str) -> str:
    counted = _plural(group.requests, what)
    return f"{counted} to {_plural(group.destinations, 'destinations')}" if group.destinations else counted


def _plural(count: int, words: str) -> str:
    return f"{count} {words if count != 1 else words.removesuffix('s')}"

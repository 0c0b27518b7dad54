"""`--filter` and its shorthands, as every audit command has them: one filter, or an error that shows the place."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.audit import AuditReader, Filter, FilterError

FilterText = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="TEXT",
        help="As in `host:*.github.com verdict:deny -method:GET since:10m`, or a saved one: `@NAME`. May be repeated.",
        show_default=False,
    ),
]
VerdictOption = Annotated[
    Literal["allow", "deny", "ask"] | None, typer.Option("--verdict", help="Only this verdict: `verdict:deny`.")
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="PATTERN", help="A name, `.example.com` (and below), or with stars: `*hub*`."),
]
Sandbox = Annotated[str | None, typer.Option("--sandbox", metavar="NAME", help="Only this sandbox.")]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only this reason code, of the decision or the outcome.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="`90s`, `10m`, `2h`, `1d`, or a time such as 2026-11-20T10:00:00Z."),
]
FailOnDeny = Annotated[
    bool, typer.Option("--fail-on-deny", help="Exit with 1 if any row was refused, or would have been: for CI.")
]


def read_filter(texts: list[str] | None, **shorthands: str | None) -> Filter:
    """The filter that the options ask for; `shorthands` are values by field."""
    from egress.audit.filters import Filter, FilterError, one  # noqa: PLC0415 -- `--help` needs none of it
    from egress.audit.saved import read_with_saved, saved_file, saved_filters  # noqa: PLC0415 -- as above

    now_us = time.time_ns() // 1000
    wanted = Filter()
    saved = saved_filters(saved_file()) if any("@" in text for text in texts or ()) else {}
    for text in texts or ():
        try:
            wanted &= read_with_saved(text, now_us, saved)
        except FilterError as error:
            raise typer.BadParameter(_underlined(text, error), param_hint="--filter") from error
    for field, value in shorthands.items():
        if value is None:
            continue
        try:
            wanted &= one(field, value, now_us)
        except FilterError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{field}") from error
    return wanted


def as_text(texts: list[str] | None, shorthands: Mapping[str, str | None]) -> str:
    """The same filter as one text, to be shown and changed. Only for what `read_filter` could read."""
    given = [f"{field}:{_quoted(value)}" for field, value in shorthands.items() if value is not None]
    return " ".join([*(text.strip() for text in texts or ()), *given])


def _quoted(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.*_:+/][A-Za-z0-9.*_:+/-]*", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_refused(reader: AuditReader, wanted: Filter) -> bool:
    """Whether a row that meets the filter was refused, or let pass by a scope that only reports."""
    from egress.audit.filters import Filter, Term  # noqa: PLC0415 -- as above

    refused = (Term("verdict", ("deny", "ask")), Term("reason", ("would-deny",)))
    return any(reader.newest(wanted & Filter((term,)), limit=1) for term in refused)


def _underlined(text: str, error: FilterError) -> str:
    """The message, and below it the filter with the place marked."""
    from egress.audit import printable  # noqa: PLC0415 -- as above

    before, place, after = (
        printable(part) for part in (text[: error.start], text[error.start : error.end], text[error.end :])
    )
    return f"{error}\n\n  {before}{place}{after}\n  {' ' * len(before)}{'^' * max(len(place), 1)}"

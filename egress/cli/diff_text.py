"""Shows how a text changes: as a plain unified diff, and in colours on a terminal."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Final

import typer

from egress.audit.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


def diff_lines(before: str, after: str, name: str) -> Iterator[str]:
    """The lines of the diff. A file's line may hold anything, so each is made printable."""
    old, new = before.splitlines(), after.splitlines()
    for line in difflib.unified_diff(old, new, name, name, lineterm=""):
        yield printable(line)


def show_diff(before: str, after: str, name: str) -> None:
    """Print the diff; in colours where standard output is a terminal."""
    lines = list(diff_lines(before, after, name))
    if not sys.stdout.isatty():
        for line in lines:
            typer.echo(line)
        return
    from rich.console import Console  # noqa: PLC0415 -- only a terminal needs it
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text(line, style=_STYLES.get(line[:1], "")))

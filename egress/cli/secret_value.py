"""Reads the value of a secret: hidden on a terminal, from standard input, or a file; never from the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from egress.credentials import Secret
from egress.credentials.sources import MAX_BYTES, fits_header, storable, without_line_end
from egress.errors import CredentialError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

# A terminal hands over lines of 4,095 characters, and drops the rest without a word (termios(3), canonical mode).
_TERMINAL_LINE: Final = 4_095


def refuse_on_command_line() -> NoReturn:
    """Say why, without a word of what stood there."""
    message = (
        "egress: a value never stands on the command line: other users see it in the list of processes, and the shell\n"
        "keeps it in its history; what stood there is not secret any more\n"
        "  replace it where it was issued, then run `egress secret set NAME --host HOST`, which asks for the new one"
    )
    typer.echo(message, err=True)
    raise typer.Exit(2)


def read_value(name: str, file: Path | None) -> Secret:
    """The value, without one final line break. Raises CredentialError."""
    if file is not None:
        value = _of_file(name, file)
    elif sys.stdin.isatty():
        value = _asked(name)
    else:
        value = _read(name, sys.stdin.buffer, "standard input")
    if not fits_header(value):
        typer.echo(
            f"warning: {name} has lines or characters that no header can carry; it serves as a key to sign with",
            err=True,
        )
    return value


def _of_file(name: str, file: Path) -> Secret:
    source = f"the file `{file}`"
    try:
        with file.open("rb") as opened:
            return _read(name, opened, source)
    except OSError as error:
        raise CredentialError(f"secret `{name}`: cannot open {source}: {error.strerror}") from error


def _asked(name: str) -> Secret:
    value: str = typer.prompt(f"Value of {name} (not shown)", hide_input=True, err=True)
    if len(value.encode(errors="replace")) >= _TERMINAL_LINE:
        hint = "pipe it in, or use --from-file: a terminal cuts longer lines off"
        raise CredentialError(f"secret `{name}`: the value is too long to be typed", hint=hint)
    return storable(name, value, "what was typed")


def _read(name: str, opened: BinaryIO, source: str) -> Secret:
    # Two more than may be kept: the line break at the end does not count.
    data = opened.read(MAX_BYTES + 3)
    return storable(name, without_line_end(data.decode(errors="surrogateescape")), source)

"""`egress policy fmt`: lays policy files out in one way, and touches no file that would then mean another thing.

1. The file loads as it is, and its new text reads back as the same values (`egress.config.layout`).
2. The new text is written beside the file, loaded, and its rules and digest compared with the file's.
3. Only then does it take the file's place, at once, with its mode and owner, if the file is still as it was read.
"""

from __future__ import annotations

import difflib
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config import Formatted, LoadedPolicy
    from egress.errors import ConfigError

_WOULD_CHANGE = 1
_REFUSED = 2

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Policy files.", show_default=False)]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")]
Diff = Annotated[bool, typer.Option("--diff", help="Write nothing; show what would change, and exit 1 if anything.")]


def fmt(files: Files, *, check: Check = False, diff: Diff = False) -> None:
    """Lay policy files out in one way; comments and the order of rules stay. Exit 2 if a file cannot be.

    \b
    Examples:
      egress policy fmt policy.yaml
      egress policy fmt --check policies/*.yaml
      egress policy fmt --diff policy.yaml
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.errors import ConfigError  # noqa: PLC0415  # loaded by the command, so that --help is fast

    refused = changed = False
    for path in files:
        try:
            formatted = _format(path, write=not check and not diff)
        except ConfigError as error:
            refused = True
            for problem in error.problems:
                typer.echo(str(problem), err=True)
            continue
        if formatted.changed:
            changed = True
            _tell(path, formatted, check=check, diff=diff)
    if refused:
        raise typer.Exit(_REFUSED)
    if changed and (check or diff):
        raise typer.Exit(_WOULD_CHANGE)


def _tell(path: Path, formatted: Formatted, *, check: bool, diff: bool) -> None:
    from egress.config import printable  # noqa: PLC0415

    name = printable(str(path))
    if diff:
        before, after = (text.split("\n") for text in formatted)
        for line in difflib.unified_diff(before, after, name, name, lineterm=""):
            typer.echo(printable(line))
    else:
        typer.echo(f"{name}: would change" if check else f"{name}: laid out")


def _format(path: Path, *, write: bool) -> Formatted:
    from egress.config import PolicySource, format_policy, load_policy, printable, read_text  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415
    from egress.policy import Scope  # noqa: PLC0415

    before = load_policy([PolicySource(Scope.SANDBOX, path)])
    real = Path(os.path.realpath(path))
    state = real.stat()
    found = read_text(path)
    if found.text is None:
        raise ConfigError(found.problems)
    formatted = format_policy(found.text, printable(str(path)))
    if formatted.changed and write:
        try:
            _replace(real, formatted.after, state, before)
        except OSError as error:
            raise _left(path, f"cannot be written ({(error.strerror or 'unknown error').lower()})") from error
    return formatted


def _replace(path: Path, text: str, state: os.stat_result, before: LoadedPolicy) -> None:
    from egress.config import PolicySource, load_policy  # noqa: PLC0415
    from egress.policy import Scope  # noqa: PLC0415

    with _beside(path, text, state) as written:
        if _meaning(load_policy([PolicySource(Scope.SANDBOX, written)])) != _meaning(before):
            raise _left(path, "its rules would change")
        now = path.stat()
        if (now.st_ino, now.st_mtime_ns, now.st_size) != (state.st_ino, state.st_mtime_ns, state.st_size):
            raise _left(path, "somebody else has changed it meanwhile")
        written.replace(path)


@contextmanager
def _beside(path: Path, text: str, state: os.stat_result) -> Iterator[Path]:
    """A file beside `path` with this text and the mode and owner of `state`; gone at the end, unless it was moved."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            if (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, state.st_uid, state.st_gid)
            # After the owner, since a change of owner clears bits of the mode.
            os.fchmod(descriptor, stat.S_IMODE(state.st_mode))
            os.fsync(descriptor)
        yield written
    finally:
        with suppress(FileNotFoundError):
            written.unlink()


def _meaning(loaded: LoadedPolicy) -> object:
    """All that a policy says, without where each rule stands."""
    scopes = [
        replace(scope, rules=tuple(replace(rule, file="", line=None) for rule in scope.rules))
        for scope in loaded.policy.scopes
    ]
    return loaded.policy.digest, scopes, dict(loaded.secrets)


def _left(path: Path, message: str) -> ConfigError:
    from egress.config import printable  # noqa: PLC0415
    from egress.errors import ConfigError, Problem  # noqa: PLC0415

    return ConfigError([Problem(printable(str(path)), None, "", message, "the file is left as it is")])

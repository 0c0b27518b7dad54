"""`egress policy fmt`: lays policy files out in one way, and touches no file that would then mean another thing.

1. The file loads as it is (a preset need not), and its new text reads back as the same values (`egress.config.layout`).
2. The new text is loaded from beside the file, and its rules and digest compared with the file's.
3. Only then does it take the file's place, at once, with its mode and owner, if the file is still as it was read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import ConfigFile, Presets

if TYPE_CHECKING:
    from pathlib import Path

    from egress.cli.loading import Surroundings
    from egress.config import Formatted, LoadedPolicy, PolicySource
    from egress.errors import ConfigError

_WOULD_CHANGE = 1
_REFUSED = 2

Files = Annotated[
    list[str], typer.Argument(metavar="[SCOPE=]FILE...", help="Policy files, or presets.", show_default=False)
]
Beside = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="[SCOPE=]NAME|FILE",
        help="A policy that stands beside, so that its secrets are known. May be repeated.",
        show_default=False,
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")]
Diff = Annotated[bool, typer.Option("--diff", help="Write nothing; show what would change, and exit 1 if anything.")]


def fmt(
    files: Files,
    *,
    check: Check = False,
    diff: Diff = False,
    policy: Beside = None,
    presets: Presets = None,
    config: ConfigFile = None,
) -> None:
    """Lay policy files out in one way; comments and the order of rules stay. Exit 2 if a file cannot be.

    \b
    Examples:
      egress policy fmt policy.yaml
      egress policy fmt --check policies/*.yaml
      egress policy fmt --diff policy.yaml
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.loading import find, surroundings  # noqa: PLC0415  # loaded late, so that --help is fast
    from egress.errors import ConfigError  # noqa: PLC0415

    around = surroundings(config, presets)
    beside = find(policy)
    refused = changed = False
    for text in files:
        try:
            (source,) = find([text])
            formatted = _format(source, beside, around, write=not check and not diff)
        except ConfigError as error:
            refused = True
            for problem in error.problems:
                typer.echo(str(problem), err=True)
            continue
        if formatted.changed:
            changed = True
            _tell(source.path, formatted, check=check, diff=diff)
    if refused:
        raise typer.Exit(_REFUSED)
    if changed and (check or diff):
        raise typer.Exit(_WOULD_CHANGE)


def _tell(path: Path, formatted: Formatted, *, check: bool, diff: bool) -> None:
    from egress.cli.diff_text import show_diff  # noqa: PLC0415
    from egress.config import printable  # noqa: PLC0415

    name = printable(str(path))
    if diff:
        show_diff(*formatted, name)
    else:
        typer.echo(f"{name}: would change" if check else f"{name}: laid out")


def _format(source: PolicySource, beside: list[PolicySource], around: Surroundings, *, write: bool) -> Formatted:
    from egress.cli import policy_files  # noqa: PLC0415
    from egress.config import format_policy, is_preset, read_text  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415

    found = read_text(source.path)
    if found.text is None:
        raise ConfigError(found.problems)
    file = policy_files.PolicyFile(source, found.text.encode("utf-8"))
    formatted = format_policy(file.text, file.name)
    # A preset says nothing by itself; that its values are the same is all that there is to prove.
    if not is_preset(file.text, file.name):
        sources = [*beside, source]
        before = _meaning(around.load(sources))
        trial = policy_files.Trial(file, formatted.after, sources, around)
        if formatted.changed and write and trial.look(lambda loaded, _: _meaning(loaded)) != before:
            raise _left(file.name, "its rules would change")
    if formatted.changed and write:
        policy_files.replace_file(file, formatted.after)
    return formatted


def _meaning(loaded: LoadedPolicy) -> object:
    """All that a policy says, without where each rule stands."""
    scopes = [
        replace(scope, rules=tuple(replace(rule, file="", line=None) for rule in scope.rules))
        for scope in loaded.policy.scopes
    ]
    return loaded.policy.digest, scopes, dict(loaded.secrets)


def _left(name: str, message: str) -> ConfigError:
    from egress.errors import ConfigError, Problem  # noqa: PLC0415

    return ConfigError([Problem(name, None, "", message, "the file is left as it is")])

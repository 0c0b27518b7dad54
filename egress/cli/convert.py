"""`egress policy import` and `egress policy export`: the text to standard output, the losses to standard error."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from egress.cli.options import ConfigFile, Policies, Presets

if TYPE_CHECKING:
    from egress.review.convert import Converted

From = Annotated[
    Literal["azure-container-apps", "claude-code", "sandbox-runtime"],
    typer.Option("--format", help="What the file is.", show_default=False),
]
To = Annotated[
    Literal["azure-container-apps", "claude-code", "sandbox-runtime", "kubernetes", "cilium"],
    typer.Option("--format", help="What to write.", show_default=False),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="The file, or - for standard input.", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Fail, and print no policy, if anything is lost.")]
Widening = Annotated[
    bool, typer.Option("--allow-widening", help="Print also what permits more there than here, and what is then kept.")
]


def register(group: typer.Typer) -> None:
    """Add `import` and `export` to the `policy` group."""
    group.command("import")(import_policy)
    group.command("export")(export_policy)


def import_policy(file: File, *, form: From, strict: Strict = False) -> None:
    """Print another tool's settings as a policy file; say on standard error what was lost, with lines.

    \b
    Examples:
      egress policy import --format azure-container-apps egress-policy.yaml > policy.yaml
      egress policy import --format claude-code .claude/settings.json > policy.yaml
      egress policy import --format sandbox-runtime --strict srt-settings.json > policy.yaml
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.config.wording import printable  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.review.convert import IMPORTS  # noqa: PLC0415

    name = "standard input" if file == "-" else printable(file)
    converted = IMPORTS[form](_text_of(file, name), name)
    _check_that_it_loads(converted.text, name)
    _print(converted, strict=strict, allow_widening=False)


def export_policy(
    *,
    form: To,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    strict: Strict = False,
    allow_widening: Widening = False,
) -> None:
    """Print a policy in another tool's form; say on standard error what was lost, with lines.

    What that tool cannot say as narrowly is left out. Where it would permit what the policy refuses, nothing is
    printed without --allow-widening.

    \b
    Examples:
      egress policy export --format azure-container-apps --policy policy.yaml > egress-policy.yaml
      egress policy export --format claude-code --policy policy.yaml > managed-settings.json
      egress policy export --format kubernetes --policy policy.yaml | kubectl apply -f -
      egress policy export --format cilium --policy policy.yaml --strict
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.loading import surroundings  # noqa: PLC0415
    from egress.review.convert import EXPORTS  # noqa: PLC0415

    loaded = surroundings(config, presets).load_named(policy or ())
    converted = EXPORTS[form](loaded, keep_wider=allow_widening)
    _print(converted, strict=strict, allow_widening=allow_widening)


def _print(converted: Converted, *, strict: bool, allow_widening: bool) -> None:
    for loss in converted.losses:
        typer.echo(str(loss), err=True)
    if converted.widens and not allow_widening:
        typer.echo("egress: nothing is printed: it would permit more (see `wider`), add `--allow-widening`", err=True)
        raise typer.Exit(1)
    if strict and not converted.is_whole:
        typer.echo("egress: nothing is printed: something was lost, and `--strict` says not to", err=True)
        raise typer.Exit(1)
    typer.echo(converted.text, nl=False)


def _text_of(file: str, name: str) -> str:
    from egress.config.reading import MAX_FILE_BYTES  # noqa: PLC0415
    from egress.review.convert import ConversionError  # noqa: PLC0415

    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConversionError(f"{name}: cannot be read ({error.strerror})", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConversionError(f"{name}: the file is not UTF-8", hint="save it as UTF-8") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConversionError(f"{name}: larger than {MAX_FILE_BYTES // 1024} KB", hint="split it")
    return text


def _check_that_it_loads(text: str, name: str) -> None:
    """What came in and is no policy here (a method that is no token, say) is told, and nothing is printed."""
    from egress.config import PolicySource, load_policy  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415
    from egress.policy import Scope  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_policy([PolicySource(Scope.SANDBOX, path)])
        except ConfigError as error:
            problems = [replace(problem, file=f"{name}, imported", line=None) for problem in error.problems]
            raise ConfigError(problems) from error

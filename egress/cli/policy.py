"""`egress policy`: the tools around policy files, each in a module of its own but for `check` and `schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli import convert, policy_diff, policy_fmt, policy_show, policy_test
from egress.cli.options import Presets

if TYPE_CHECKING:
    from egress.errors import Problem

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Policy files, or names of shipped policies.", show_default=False),
]


_HELP = """Check, test, compare, show, lay out and convert policy files, and print their JSON Schema.

\b
Examples:
  egress policy check policy.yaml
  egress policy test tests/*.yaml
  egress policy diff old.yaml policy.yaml
  egress policy schema > policy.schema.json
  egress policy import --format claude-code .claude/settings.json > policy.yaml
  egress policy export --format cilium --policy policy.yaml
"""


def register(app: typer.Typer) -> None:
    """Add the `policy` group to `app`."""
    group = typer.Typer(no_args_is_help=True, help=_HELP)
    group.command("check")(check)
    group.command("test")(policy_test.run_cases)
    group.command("diff")(policy_diff.diff)
    group.command("show")(policy_show.show)
    group.command("fmt")(policy_fmt.fmt)
    group.command("schema")(schema)
    convert.register(group)
    app.add_typer(group, name="policy")


def check(files: Files, *, presets: Presets = None) -> None:
    """Check policy files; each as if it stood alone. Says every problem of every file. Exit 0 if all are usable.

    \b
    Examples:
      egress policy check policy.yaml
      egress policy check policies/*.yaml
      egress policy check coding-agent
      egress policy check policy.yaml --presets presets
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.config import find_policy, load_policy  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.errors import ConfigError  # noqa: PLC0415

    usable = True
    for text in files:
        try:
            loaded = load_policy([find_policy(text)], presets=presets or ())
        except ConfigError as error:
            usable = False
            for problem in error.problems:
                typer.echo(str(problem), err=True)
            continue
        for warning in loaded.warnings:
            typer.echo(_warning(warning), err=True)
        typer.echo(f"{text}: ok ({_count(loaded.rules)})")
    if not usable:
        raise typer.Exit(1)


def schema() -> None:
    """Print the JSON Schema of policy files, for editors.

    \b
    Examples:
      egress policy schema > policy.schema.json
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.config import policy_schema_text  # noqa: PLC0415

    typer.echo(policy_schema_text(), nl=False)


def _warning(problem: Problem) -> str:
    return f"warning: {problem}"


def _count(rules: int) -> str:
    return f"{rules} rule" if rules == 1 else f"{rules} rules"

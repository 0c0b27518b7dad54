"""`egress policy`: the tools around policy files, each in a module of its own but for `check` and `schema`."""

from __future__ import annotations

import typer

from egress.cli import convert, policy_diff, policy_fmt, policy_show, policy_test
from egress.cli.policy_check import check

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


def schema() -> None:
    """Print the JSON Schema of policy files, for editors.

    \b
    Examples:
      egress policy schema > policy.schema.json
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.config import policy_schema_text  # noqa: PLC0415

    typer.echo(policy_schema_text(), nl=False)

"""The `egress` command: puts the command groups together and turns errors into one line and an exit status.

0: done. 1: the thing asked is wrong, denied, or could not be done. 2: the command line itself is wrong.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from egress import __version__
from egress.cli import (
    allow,
    audit,
    ca,
    doctor,
    env,
    exec,  # noqa: A004 -- a command
    explain,
    gateway,
    policy,
    reload,
    run,
    sandbox,
    secret,
    status,
)
from egress.cli.streams import hold_streams
from egress.errors import ConfigError, EgressError

app = typer.Typer(
    name="egress",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="""A default-deny egress firewall for agent workloads.

    \b
    Examples:
      egress run --policy starter
      egress exec --policy coding-agent -- claude
      egress explain https://api.github.com/user --policy starter
      egress audit --follow
    """,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"egress {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Nothing to set up before a command."""


for module in (run, exec, status, reload, explain, allow, policy, sandbox, secret, audit, ca, env, gateway, doctor):
    module.register(app)


def main() -> None:
    """Run the command line."""
    hold_streams()
    try:
        app()
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"egress: {problem}", err=True)
        sys.exit(1)
    except EgressError as error:
        typer.echo(f"egress: {error.message}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(1)

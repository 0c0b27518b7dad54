"""`egress reload`: have the proxy read its policy files again, and say what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from egress.cli.options import StateDir, state_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

# Reading the files may take five minutes, and a process that does not take the policy over one more.
_SECONDS = 600.0


def register(app: typer.Typer) -> None:
    """Add the `reload` command to `app`."""
    app.command("reload")(reload)


def reload(*, state_dir: StateDir = None) -> None:
    """Have the proxy read its policy files again, and wait for what becomes of it.

    \b
    Examples:
      egress reload
      egress reload --state-dir .state

    Exit 0: the policy is in force. Exit 1: the files do not load, and the policy that was in force is kept.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.audit import printable  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.errors import StateError  # noqa: PLC0415
    from egress.server.control_client import ask  # noqa: PLC0415

    answer = ask(state_folder(state_dir), {"command": "reload"}, seconds=_SECONDS)
    if "done" not in answer:
        raise StateError(f"the proxy does not reload: {answer.get('error')}")
    if answer["done"]:
        typer.echo(printable(_done(answer)))
        return
    for problem in answer["problems"]:
        typer.echo(f"egress: {printable(str(problem))}", err=True)
    typer.echo(printable(f"the policy was kept: generation {answer['generation']}, {answer['before']}"), err=True)
    raise typer.Exit(1)


def _done(answer: Mapping[str, Any]) -> str:
    cut = "1 connection" if answer["cut"] == 1 else f"{answer['cut']} connections"
    number = f"generation {answer['generation']} is in force"
    if answer["before"] == answer["after"]:
        return f"{number}: the same policy, {answer['after']}; {cut} cut"
    return f"{number}: {answer['before']} to {answer['after']}; {cut} cut"

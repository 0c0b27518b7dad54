"""`egress doctor`: what keeps the proxy from holding a sandbox, or a client from working through it, and the fix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import CaDir, ConfigFile, StateDir

if TYPE_CHECKING:
    from pathlib import Path

    from egress.confine.doctor import Check, Result

Within = Annotated[bool, typer.Option("--inside", help="Look from within a sandbox: no state folder, no proxy here.")]
Offline = Annotated[bool, typer.Option("--offline", help="With --inside: send nothing to any address but the proxy's.")]
Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="HOST:PORT",
        help="With --inside: an address to try in place of public ones. May be repeated.",
        show_default=False,
    ),
]
Gateway = Annotated[bool, typer.Option("--gateway", help="The rules of `egress gateway` have to be there.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the `doctor` command to `app`."""
    app.command("doctor")(doctor)


def doctor(
    *,
    inside: Within = False,
    offline: Offline = False,
    probe: Probes = None,
    gateway: Gateway = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    ca_dir: CaDir = None,
    config: ConfigFile = None,
) -> None:
    """Look for what is wrong, and say what to do: on the proxy's host, or from inside a sandbox.

    \b
    Examples:
      egress doctor
      egress doctor --config /etc/egress/egress.yaml --gateway
      egress doctor --inside
      egress doctor --inside --offline --json

    It changes nothing and takes up to 10 seconds. With --inside it tries public addresses, to find a road around the
    proxy: docs/guides/doctor.md says which, and what each check means.

    Exit 0: no problem. Exit 1: a problem.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.confine.doctor import State, examine  # noqa: PLC0415 -- `egress --help` needs none of it

    checks = _inside(probe, offline=offline) if inside else _host(state_dir, ca_dir, config, gateway=gateway)
    results = examine(checks)
    if as_json:
        _print_json(results)
    else:
        _print_table(results)
    if any(result.finding.state is State.PROBLEM for result in results):
        raise typer.Exit(1)


def _inside(probes: list[str] | None, *, offline: bool) -> list[Check]:
    from egress.confine.doctor_inside import Inside  # noqa: PLC0415
    from egress.confine.doctor_sandbox import read_probe  # noqa: PLC0415

    if probes is None:
        return Inside(os.environ, offline=offline).checks()
    try:
        named = [read_probe(text) for text in probes]
    except ValueError as error:
        message = f"`{error}` is no address and port: write `192.0.2.1:443`"
        raise typer.BadParameter(message, param_hint="--probe") from error
    four = tuple(address for address in named if ":" not in address[0])
    six = tuple(address for address in named if ":" in address[0])
    return Inside(os.environ, offline=offline, probes=four, probes6=six).checks()


def _host(state_dir: Path | None, ca_dir: Path | None, config: Path | None, *, gateway: bool) -> list[Check]:
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415
    from egress.confine.doctor_clients import Clients  # noqa: PLC0415
    from egress.confine.doctor_host import Host  # noqa: PLC0415
    from egress.confine.doctor_kernel import checks  # noqa: PLC0415

    server = load_server_config(config, ServerOverrides(state_dir=state_dir, ca_dir=ca_dir), os.environ)
    clients = Clients(server.state_dir, server.ca_dir, os.environ)
    return [*Host(server).checks(), *checks(gateway=gateway), *clients.checks()]


def _print_json(results: list[Result]) -> None:
    import json  # noqa: PLC0415

    found = [
        {"id": one.id, "state": one.finding.state.value, "told": one.finding.told, "fix": one.finding.fix}
        for one in results
    ]
    typer.echo(json.dumps({"ok": all(one["state"] != "problem" for one in found), "checks": found}))


def _print_table(results: list[Result]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from egress.cli.safe_text import safe  # noqa: PLC0415
    from egress.confine.doctor import State  # noqa: PLC0415

    # Never by colour alone.
    looks = {
        State.OK: ("✓", "green"),
        State.NOTE: ("i", "cyan"),
        State.WARNING: ("!", "yellow"),
        State.PROBLEM: ("✗", "bold red"),
        State.SKIPPED: ("-", "dim"),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for width in (None, 8, 18):
        table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    for one in results:
        glyph, style = looks[one.finding.state]
        told = Text(safe(one.finding.told))
        if one.finding.fix and one.finding.state is not State.OK:
            told = Text.assemble(told, "\n", ("→ ", style), safe(one.finding.fix))
        table.add_row(Text(glyph, style), Text(one.finding.state.value, style), Text(one.id), told)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    counts = {state: sum(one.finding.state is state for one in results) for state in State}
    summary = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    console.print(Text(f"{summary}; each is in docs/guides/doctor.md", "dim"))

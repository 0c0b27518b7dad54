"""`egress gateway`: the rules that leave the proxy as the only way out of a subnet, or of this host's users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.gateway_options import (
    ClosedPort,
    DnsPort,
    ExceptUid,
    Interface,
    Ipv6Option,
    OfThisHost,
    OpenPort,
    Port,
    SandboxPair,
    Source,
    TableName,
    Tproxy,
    Uid,
    wanted,
    with_options,
)
from egress.cli.gateway_told import as_object, lines

if TYPE_CHECKING:
    from egress.confine.gateway import Gateway

LeaveClosed = Annotated[
    bool, typer.Option("--leave-closed", help="Keep what refuses everything, and redirect nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]

gateway_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Leave the proxy as the only way out, by nftables rules: of a subnet, or of this host's users.

    \b
    Examples:
      egress gateway up --interface lan0 --dns-port 5300
      egress gateway up --this-host --except-uid egress --dns-port 5300
      egress gateway status
      egress gateway down
    """,
)


def register(app: typer.Typer) -> None:
    """Add the `gateway` commands to `app`."""
    app.add_typer(gateway_app, name="gateway")


def _up(gateway: Gateway) -> None:
    """Put the rules in force, in place of those that there were. Without the proxy nothing passes.

    \b
    Examples:
      egress gateway up --interface lan0 --dns-port 5300 --open-port 3128
      egress gateway up --sandbox ci-7=veth7:10.8.0.7 --sandbox ci-8=veth8:10.8.0.8
      egress gateway up --this-host --uid agent --closed-port 9464

    Everything but TCP, and DNS with --dns-port, is refused. Needs root.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.confine import gateway_up  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.confine.gateway_text import command_line  # noqa: PLC0415

    gateway_up.up(gateway)
    typer.echo(f"in force: {command_line(gateway)}")
    for note in gateway_up.notes(gateway):
        typer.echo(f"note: {note}")


def _print(gateway: Gateway) -> None:
    """Print the rules, for `nft -f`, and set nothing. Needs no root.

    \b
    Examples:
      egress gateway print --interface lan0 --dns-port 5300
      egress gateway print --this-host --uid agent | nft -c -f -

    What `up` does beside, such as looking at the interfaces and setting the routes of --tproxy, is then yours.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.confine.gateway_text import rules_text  # noqa: PLC0415 -- `egress --help` needs none of it

    typer.echo(rules_text(gateway), nl=False)


gateway_app.command("up")(with_options(_up))
gateway_app.command("print")(with_options(_print))


@gateway_app.command("down")
def down(*, table: TableName = "egress", leave_closed: LeaveClosed = False) -> None:
    """Remove the rules, which opens what they closed; --leave-closed refuses everything instead.

    \b
    Examples:
      egress gateway down
      egress gateway down --leave-closed
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.confine import gateway_up  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.confine.gateway_host import forwarding  # noqa: PLC0415

    if not gateway_up.down(table, leave_closed=leave_closed):
        typer.echo(f"there was no table {table}: nothing is confined by it")
    elif leave_closed:
        typer.echo("closed: everything is refused until `egress gateway up`, or `down` without --leave-closed")
    else:
        families = forwarding()
        open_now = f"; this host forwards {' and '.join(families)}, so sandboxes reach what it does" if families else ""
        typer.echo(f"removed: nothing is confined any more{open_now}")


@gateway_app.command("status")
def status(
    *,
    interface: Interface = None,
    source: Source = None,
    sandbox: SandboxPair = None,
    tproxy: Tproxy = False,
    open_port: OpenPort = None,
    this_host: OfThisHost = False,
    uid: Uid = None,
    except_uid: ExceptUid = None,
    closed_port: ClosedPort = None,
    port: Port = 3129,
    dns_port: DnsPort = None,
    ipv6: Ipv6Option = "auto",
    table: TableName = "egress",
    as_json: AsJson = False,
) -> None:
    """Compare the rules with those that `up` would set, and show who listens and what they counted. Needs root.

    \b
    Examples:
      egress gateway status
      egress gateway status --interface lan0 --dns-port 5300
      egress gateway status --json | jq .counters

    Without options, with those that the table itself says. Exit 0: in force, and the proxy listens. Exit 1: not.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.confine import gateway_status  # noqa: PLC0415 -- `egress --help` needs none of it

    asked = None
    if interface or source or sandbox or this_host:
        asked = wanted(
            interface=interface,
            source=source,
            sandbox=sandbox,
            tproxy=tproxy,
            open_port=open_port,
            this_host=this_host,
            uid=uid,
            except_uid=except_uid,
            closed_port=closed_port,
            port=port,
            dns_port=dns_port,
            ipv6=ipv6,
            table=table,
        )
    found = gateway_status.status(table, asked)
    for line in [json.dumps(as_object(found))] if as_json else lines(found):
        typer.echo(line)
    if not found.ready:
        raise typer.Exit(1)

"""The options that say what a gateway confines, and the value that they make: once for all commands that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.confine.gateway import Gateway, Subnet, ThisHost

Interface = Annotated[
    list[str] | None,
    typer.Option("--interface", metavar="NAME", help="An interface that sandboxes are behind. May be repeated."),
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="CIDR",
        help="The sandboxes' addresses, with --interface or, where it carries others too, without. May be repeated.",
    ),
]
SandboxPair = Annotated[
    list[str] | None,
    typer.Option(
        "--sandbox",
        metavar="NAME=INTERFACE:ADDRESS",
        help="A sandbox alone behind an interface: no other address comes in there. May be repeated.",
    ),
]
Tproxy = Annotated[bool, typer.Option("--tproxy", help="TPROXY in place of REDIRECT. Not for --this-host.")]
OpenPort = Annotated[
    list[int] | None,
    typer.Option("--open-port", metavar="PORT", help="A port here that sandboxes may reach. May be repeated."),
]
OfThisHost = Annotated[bool, typer.Option("--this-host", help="Confine users of this host, or network namespace.")]
Uid = Annotated[
    list[str] | None, typer.Option("--uid", metavar="USER", help="A user that is confined. May be repeated.")
]
ExceptUid = Annotated[
    list[str] | None,
    typer.Option("--except-uid", metavar="USER", help="Confine everybody but this user: the proxy's. May be repeated."),
]
ClosedPort = Annotated[
    list[int] | None,
    typer.Option(
        "--closed-port", metavar="PORT", help="A port on loopback that stays closed: the admin's. May be repeated."
    ),
]
Port = Annotated[int, typer.Option("--port", metavar="PORT", help="Where the proxy takes redirected connections.")]
DnsPort = Annotated[
    int | None, typer.Option("--dns-port", metavar="PORT", help="Where it answers DNS. Default: DNS is refused.")
]
Ipv6Option = Annotated[
    Literal["auto", "redirect", "reject"],
    typer.Option("--ipv6", help="IPv6 to the proxy, or refused. auto: as the interfaces have addresses."),
]
TableName = Annotated[str, typer.Option("--table", metavar="NAME", help="The table of rules; `egress_2` for another.")]


def with_options(act: Callable[[Gateway], None]) -> Callable[..., None]:
    """A command that has all the options and gives `act` what they ask for."""

    def command(
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
    ) -> None:
        act(
            wanted(
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
        )

    command.__doc__ = act.__doc__
    return command


def wanted(
    *,
    interface: list[str] | None,
    source: list[str] | None,
    sandbox: list[str] | None,
    tproxy: bool,
    open_port: list[int] | None,
    this_host: bool,
    uid: list[str] | None,
    except_uid: list[str] | None,
    closed_port: list[int] | None,
    port: int,
    dns_port: int | None,
    ipv6: str,
    table: str,
) -> Gateway:
    """The gateway that the options ask for. Raises GatewayError, `typer.BadParameter`."""
    from egress.confine.gateway import Gateway, Ipv6, Subnet, ThisHost, parse_pair, parse_source  # noqa: PLC0415
    from egress.confine.gateway_up import automatic_ipv6  # noqa: PLC0415

    of_subnet: dict[str, object] = {"--interface": interface, "--source": source, "--sandbox": sandbox}
    of_subnet |= {"--tproxy": tproxy, "--open-port": open_port}
    of_host: dict[str, object] = {"--uid": uid, "--except-uid": except_uid, "--closed-port": closed_port}
    for name, given in (of_subnet if this_host else of_host).items():
        if given:
            form = "not with --this-host" if this_host else "only with --this-host"
            raise typer.BadParameter(f"is {form}", param_hint=name)
    confined: Subnet | ThisHost
    if this_host:
        confined = ThisHost(_uids(uid), _uids(except_uid), tuple(closed_port or ()))
    else:
        confined = Subnet(
            interfaces=tuple(dict.fromkeys(interface or ())),
            sources=tuple(parse_source(text) for text in source or ()),
            pairs=tuple(parse_pair(text) for text in sandbox or ()),
            open_ports=tuple(open_port or ()),
            tproxy=tproxy,
        )
    family = automatic_ipv6(confined) if ipv6 == "auto" else Ipv6(ipv6)
    return Gateway(confined, table=table, port=port, dns_port=dns_port, ipv6=family)


def _uids(users: list[str] | None) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_uid(user) for user in users or ()))


def _uid(user: str) -> int:
    import pwd  # noqa: PLC0415

    from egress.errors import GatewayError  # noqa: PLC0415

    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise GatewayError(
            f"there is no user `{user}`", hint="write its name as in /etc/passwd, or its number"
        ) from None

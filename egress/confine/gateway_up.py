"""Put the rules of a gateway in force, and take them back.

What the rules rest on is looked at first, and anything wrong refuses: nothing is warned about and then done anyway.
Then the rules, in one transaction; then the routes of TPROXY, without which the rules are closed.
"""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from egress.confine.gateway import Ipv6, Subnet, ThisHost, check_table
from egress.confine.gateway_host import (
    bridge_of,
    forwarding,
    interface_names,
    ipv6_scopes,
    listeners,
    ways_out,
)
from egress.confine.gateway_nft import apply, own_table, program, remove, require_privilege, taking_turns
from egress.confine.gateway_routes import drop_routes, needs_routes, set_routes
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.confine.gateway import Gateway
    from egress.confine.gateway_nft import Table


def up(gateway: Gateway) -> None:
    """Put the rules in force. Raises GatewayError; what was in force then stays, or the rules are closed."""
    program("nft")
    require_privilege()
    with taking_turns():
        _up(gateway)


def _up(gateway: Gateway) -> None:
    own_table(gateway.table)
    if isinstance(gateway.confined, Subnet):
        _check_subnet(gateway, gateway.confined)
    else:
        _check_users(gateway, gateway.confined)
    apply(gateway)
    if needs_routes(gateway):
        drop_routes(gateway.table)
        set_routes(gateway)
    elif isinstance(gateway.confined, Subnet):
        drop_routes(gateway.table)


def down(table: str, *, leave_closed: bool) -> bool:
    """Remove the rules, or leave those that refuse everything; False where there were none. Raises GatewayError."""
    check_table(table)
    program("nft")
    with taking_turns():
        return _down(table, leave_closed=leave_closed)


def _down(table: str, *, leave_closed: bool) -> bool:
    found = own_table(table)
    if found is None:
        return False
    if leave_closed:
        apply(found.described().left_closed())
    # First the routes: without them the rules are closed, while the routes without rules would lead to this host.
    if _marks(found):
        drop_routes(table)
    if not leave_closed:
        remove(table)
    return True


def automatic_ipv6(confined: Subnet | ThisHost) -> Ipv6:
    """`REDIRECT` if each interface has an IPv6 address that connections can be redirected to."""
    if isinstance(confined, ThisHost):
        able = "host" in ipv6_scopes("lo")
    elif confined.behind:
        able = all("global" in ipv6_scopes(name) for name in confined.behind)
    else:
        able = any(isinstance(source, IPv6Network) for source in confined.sources)
    return Ipv6.REDIRECT if able else Ipv6.REJECT


def notes(gateway: Gateway) -> Iterator[str]:
    """What the rules do not do, in sentences, for the people who rely on them."""
    confined = gateway.confined
    if isinstance(confined, ThisHost):
        yield from _notes_of_users(confined)
        return
    for interface in confined.behind:
        paired = {pair.address for pair in confined.pairs if pair.interface == interface}
        if len(paired) != 1:
            yield (
                f"{interface}: sandboxes on one segment can take each other's address, which no rule here prevents, "
                "and reach each other past this host; give each an interface of its own "
                "(`--sandbox NAME=INTERFACE:ADDRESS`) or a token"
            )
    if not confined.behind:
        yield "sources: whoever can send from these addresses is taken for a sandbox; this host forwards for nobody now"
    if families := forwarding():
        yield f"this host forwards {' and '.join(families)}: the rules alone hold the sandboxes, also while it starts"


def _notes_of_users(confined: ThisHost) -> Iterator[str]:
    yield "a confined user must not have the capabilities NET_ADMIN or NET_RAW: with them it goes past the rules"
    if confined.uids:
        yield "whoever acts for a confined user under another one is not confined: setuid programs, subordinate uids"


def _marks(found: Table) -> bool:
    """Whether routes may be set for a table: also where it does not say so any more."""
    try:
        return needs_routes(found.described())
    except GatewayError:
        return True


def _check_subnet(gateway: Gateway, confined: Subnet) -> None:
    program("ip")
    there = interface_names()
    for name in confined.behind:
        if name not in there:
            raise GatewayError(f"there is no interface `{name}`", hint=f"there are {', '.join(sorted(there))}")
        if (bridge := bridge_of(name)) is not None:
            raise GatewayError(
                f"`{name}` is a part of `{bridge}`, so what comes in by it is told to come from there",
                hint=f"write `--interface {bridge}`",
            )
        if gateway.ipv6 is Ipv6.REDIRECT and "global" not in ipv6_scopes(name):
            raise GatewayError(
                f"`{name}` has no IPv6 address that connections can be redirected to",
                hint="give it one, or have IPv6 refused: `--ipv6 reject`",
            )
    if out := sorted(ways_out().intersection(confined.behind)):
        raise GatewayError(
            f"`{out[0]}` is this host's own way out, which the rules would close for it",
            hint="name the interface that the sandboxes are behind, or `--source` where they share one with others",
        )


def confined_listeners(gateway: Gateway, confined: ThisHost) -> Iterator[str]:
    """Whoever listens in the proxy's place and is confined: a proxy of that user, or the sandbox itself."""
    for port in filter(None, (gateway.port, gateway.dns_port)):
        for listener in (*listeners("tcp", port), *listeners("udp", port)):
            if confined.confines(listener.uid):
                yield (
                    f"who listens on port {port} runs as user {listener.uid}, which is confined: a proxy's own "
                    "connections would come back to it"
                )


def _check_users(gateway: Gateway, confined: ThisHost) -> None:
    for told in confined_listeners(gateway, confined):
        raise GatewayError(told, hint="run the proxy as a user of its own, and leave that one free: `--except-uid`")

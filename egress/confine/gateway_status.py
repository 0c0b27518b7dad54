"""What a gateway's rules are now, beside what they should be: drift, listeners, counters.

nft itself tells how it would list the rules that should be there: it is given them under another name, asleep, so that
versions of nft and of the kernel that write them differently make no difference.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress.confine.gateway import Ipv6, Subnet, ThisHost, check_table
from egress.confine.gateway_host import interface_names, listeners
from egress.confine.gateway_nft import listed_as, require_privilege, table, taking_turns
from egress.confine.gateway_routes import missing_routes, needs_routes
from egress.confine.gateway_text import compared_text
from egress.confine.gateway_up import confined_listeners, notes
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.confine.gateway import Gateway
    from egress.confine.gateway_host import Listener
    from egress.confine.gateway_nft import Table

# Not a name that `--table` takes.
_COMPARED: Final = "-compared"
_ASLEEP: Final = "\tflags dormant"
_KINDS: Final = ("redirected", "dns", "rejected", "spoofed")


class State(StrEnum):
    """`DRIFTED`: the rules are not those that `up` would set. `FOREIGN`: somebody else's table has the name."""

    IN_FORCE = "in-force"
    CLOSED = "closed"
    DRIFTED = "drifted"
    ABSENT = "absent"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Count:
    """What rules took."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """`counts`: by whom, then by kind. `silent`: ports that nobody listens on. `ready`: all holds, and is served."""

    table: str
    state: State
    gateway: Gateway | None = None
    differences: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    counts: dict[str, dict[str, Count]] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether the rules are whole and somebody serves what they redirect."""
        return self.state is State.IN_FORCE and not self.silent


def status(name: str, wanted: Gateway | None) -> GatewayStatus:
    """The state of the table `name` beside `wanted`; None: beside what it says itself. Raises GatewayError."""
    check_table(name)
    require_privilege()
    with taking_turns():
        return _status(name, wanted)


def _status(name: str, wanted: Gateway | None) -> GatewayStatus:
    found = table(name)
    if found is None:
        return GatewayStatus(name, State.ABSENT, wanted)
    if not found.ours:
        return GatewayStatus(name, State.FOREIGN, wanted)
    try:
        gateway = wanted or found.described()
    except GatewayError as error:
        return GatewayStatus(name, State.DRIFTED, None, (f"{error.message}: its rules were flushed or changed",))
    differences = (*_differences(found, gateway), *_missing(gateway))
    state = State.DRIFTED if differences else State.CLOSED if gateway.closed else State.IN_FORCE
    return GatewayStatus(
        name, state, gateway, differences, tuple(_silent(gateway)), tuple(notes(gateway)), _counts(found)
    )


def _missing(gateway: Gateway) -> Iterator[str]:
    """What the rules rest on and is not there. An interface that came back under another name is not confined."""
    if needs_routes(gateway):
        yield from missing_routes(gateway)
    if isinstance(gateway.confined, Subnet):
        there = interface_names()
        yield from (f"missing: the interface {name}" for name in gateway.confined.behind if name not in there)


def _differences(found: Table, gateway: Gateway) -> Iterator[str]:
    other = f"{gateway.table}{_COMPARED}"
    listing = listed_as(compared_text(gateway, other), other)
    wanted = [line for line in listing.splitlines()[1:] if line != _ASLEEP]
    chain = ""
    for line in difflib.ndiff(wanted, found.uncounted.splitlines()[1:]):
        mark, rule = line[:1], line[2:].strip()
        if rule.startswith("chain "):
            chain = rule.split()[1]
        if mark in "-+" and rule.strip("}"):
            yield f"{'missing' if mark == '-' else 'not ours'}: {chain}: {rule}" if chain else f"{mark} {rule}"


def _silent(gateway: Gateway) -> Iterator[str]:
    wanted = [("tcp", gateway.port)]
    if gateway.dns_port is not None:
        wanted += [("tcp", gateway.dns_port), ("udp", gateway.dns_port)]
    if loopback := isinstance(gateway.confined, ThisHost):
        yield from dict.fromkeys(confined_listeners(gateway, gateway.confined))
    for version in (4, 6) if gateway.ipv6 is Ipv6.REDIRECT else (4,):
        for protocol, port in wanted:
            if not any(_reached(each, version, loopback=loopback) for each in listeners(protocol, port)):
                yield f"nobody listens on {protocol} port {port} for IPv{version}: what is redirected there is refused"


def _reached(listener: Listener, version: int, *, loopback: bool) -> bool:
    """Whether what is redirected comes to a listener: on this host to loopback, else to the interface's address."""
    address = listener.address
    return address.version == version and (address.is_unspecified or address.is_loopback is loopback)


def _counts(found: Table) -> dict[str, dict[str, Count]]:
    counts: dict[str, dict[str, Count]] = {}
    for comment, packets, size in found.counters():
        kind, _, whom = comment.partition(" ")
        if kind in _KINDS:
            of_whom = counts.setdefault(whom, dict.fromkeys(_KINDS, Count()))
            of_whom[kind] += Count(packets, size)
    return counts

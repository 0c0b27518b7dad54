"""The chains for traffic that comes in from sandboxes, in the order in which a packet meets them.

1. `spoofed` (prerouting, raw): a source address that does not belong where it comes in is dropped, without an answer.
2. `divert` (prerouting, mangle; TPROXY) or `redirected` (prerouting, nat): TCP to the proxy, DNS to its resolver. What
   is addressed to this host is left alone: it is judged by 4.
3. `entering` (prerouting): whatever is not for this host by now is refused.
4. `arriving` (input): this host's own ports, of which only the proxy's are open.
5. `resuming` (output): a connection from before the rules, in which this host speaks first. It would count as one that
   this host made, and 4 would let the answers in.
6. `forwarding` (forward): nothing, in either direction. No packet should come that far.

Proxy gone: nobody listens on the port that 2 leads to, so the connection is reset.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import collapse_addresses
from typing import TYPE_CHECKING, cast
from zlib import crc32

from egress.confine.gateway import Gateway, Ipv6, Subnet
from egress.confine.gateway_words import ABOUT_KNOWN, BEFORE_OTHERS, DNS, IPV6, NEIGHBOURS, counted, hook, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.confine.gateway import Network
    from egress.confine.gateway_words import Chains

_LOCAL = "fib daddr type local"
_UNROUTED = "fib saddr . iif oif missing"


@dataclass(frozen=True, slots=True)
class _From:
    """Whose packets: how nft matches them, and as what they are counted."""

    match: str
    whom: str


def mark_of(table: str) -> int:
    """The mark of TPROXY's packets, and the number of the routing table for them: each table of rules has its own."""
    return 0x65670000 | (crc32(table.encode()) & 0xFFFF)


def subnet_chains(gateway: Gateway) -> Chains:
    """The chains of a gateway for what comes in."""
    confined = cast("Subnet", gateway.confined)
    whose = list(_whose(confined))
    chains: Chains = [("spoofed", [hook("filter", "prerouting", "raw"), *_spoofed(confined, whose)])]
    if not gateway.closed:
        if confined.tproxy:
            diverted = [rule for each in whose for rule in _diverted(gateway, each)]
            chains.append(("divert", [hook("filter", "prerouting", "mangle"), *diverted]))
        redirected = [rule for each in whose for rule in _redirected(gateway, each)]
        chains.append(("redirected", [hook("nat", "prerouting", BEFORE_OTHERS), *redirected]))
    return [
        *chains,
        ("entering", [hook("filter", "prerouting", "filter"), *_entering(gateway, whose)]),
        ("permitted", list(_permitted(gateway, confined))),
        ("arriving", [hook("filter", "input", "filter"), *_arriving(whose)]),
        ("resuming", [hook("filter", "output", "filter"), *_resuming(confined)]),
        ("forwarding", [hook("filter", "forward", "filter"), *_forwarding(confined)]),
    ]


def _whose(confined: Subnet) -> Iterator[_From]:
    if confined.behind:
        yield from (_From(f'iifname "{name}"', name) for name in confined.behind)
        return
    for family, networks in _families(confined.sources):
        if networks:
            yield _From(f"{family} saddr {one_of(networks)}", "sources")


def _families(networks: Iterable[Network]) -> Iterator[tuple[str, list[Network]]]:
    # nft refuses a set whose ranges overlap.
    held = tuple(networks)
    for version, family in ((4, "ip"), (6, "ip6")):
        yield family, list(collapse_addresses(network for network in held if network.version == version))  # type: ignore[type-var]


def _spoofed(confined: Subnet, whose: list[_From]) -> Iterator[str]:
    # A host asks for its neighbours before it has an address.
    yield f"ip6 saddr {{ ::, fe80::/10 }} {NEIGHBOURS} accept"
    for each in whose:
        yield counted(f"{each.match} {_UNROUTED}", "drop", "spoofed", each.whom)
    for interface in confined.behind:
        if not (allowed := confined.sources_of(interface)):
            continue
        for family, networks in _families(allowed):
            others = f"{family} saddr != {one_of(networks)}" if networks else _family(family)
            yield counted(f'iifname "{interface}" {others}', "drop", "spoofed", interface)


def _family(family: str) -> str:
    return IPV6 if family == "ip6" else "meta nfproto ipv4"


def _left_alone(gateway: Gateway, each: _From) -> Iterator[str]:
    if gateway.ipv6 is Ipv6.REJECT:
        yield f"{each.match} {IPV6} return"


def _diverted(gateway: Gateway, each: _From) -> Iterator[str]:
    yield from _left_alone(gateway, each)
    yield f"{each.match} tcp dport 53 return"
    yield f"{each.match} {_LOCAL} return"
    # Where nobody listens, `tproxy` does not match: then nothing marks the packet, and it is refused.
    verdict = f"tproxy to :{gateway.port} meta mark set {mark_of(gateway.table):#x}"
    yield f'{each.match} meta l4proto tcp {verdict} counter accept comment "redirected {each.whom}"'


def _redirected(gateway: Gateway, each: _From) -> Iterator[str]:
    yield from _left_alone(gateway, each)
    if gateway.dns_port is None:
        yield f"{each.match} tcp dport 53 return"
    else:
        yield counted(f"{each.match} {DNS} 53", f"redirect to :{gateway.dns_port}", "dns", each.whom)
    if not cast("Subnet", gateway.confined).tproxy:
        yield f"{each.match} {_LOCAL} return"
        yield counted(f"{each.match} meta l4proto tcp", f"redirect to :{gateway.port}", "redirected", each.whom)


def _entering(gateway: Gateway, whose: list[_From]) -> Iterator[str]:
    yield f"{NEIGHBOURS} accept"
    if cast("Subnet", gateway.confined).tproxy and not gateway.closed:
        yield f"meta mark {mark_of(gateway.table):#x} accept"
    yield f"{_LOCAL} accept"
    yield from (counted(each.match, "jump refuse", "rejected", each.whom) for each in whose)


def _permitted(gateway: Gateway, confined: Subnet) -> Iterator[str]:
    # Of connections that this host made, never of those made to it before the rules were there.
    yield "ct state established ct direction reply accept"
    yield from ABOUT_KNOWN
    yield f"{NEIGHBOURS} accept"
    if gateway.closed:
        return
    if gateway.ipv6 is Ipv6.REJECT:
        yield f"{IPV6} return"
    # INVARIANT: the port of redirected connections takes no others: they would have no destination but the proxy.
    if confined.tproxy:
        yield f"meta mark {mark_of(gateway.table):#x} accept"
    else:
        yield f"tcp dport {gateway.port} ct status dnat accept"
    if gateway.dns_port is not None:
        yield f"{DNS} {gateway.dns_port} accept"
    if confined.open_ports:
        yield f"tcp dport {one_of(confined.open_ports)} accept"


def _arriving(whose: list[_From]) -> Iterator[str]:
    for each in whose:
        yield f"{each.match} jump permitted"
        yield counted(each.match, "jump refuse", "rejected", each.whom)


def _resuming(confined: Subnet) -> Iterator[str]:
    toward = [(f'oifname "{name}"', name) for name in confined.behind]
    if not toward:
        found = _families(confined.sources)
        toward = [(f"{family} daddr {one_of(networks)}", "sources") for family, networks in found if networks]
    for match, whom in toward:
        yield counted(f"{match} ct state new tcp flags & (syn | ack) != syn", "jump refuse", "rejected", whom)


def _forwarding(confined: Subnet) -> Iterator[str]:
    if not confined.behind:
        # Whoever takes an address that is not among the sources would be forwarded, so nobody is.
        yield counted("", "jump refuse", "rejected", "sources")
    for interface in confined.behind:
        yield counted(f'iifname "{interface}"', "jump refuse", "rejected", interface)
        yield counted(f'oifname "{interface}"', "jump refuse", "rejected", interface)

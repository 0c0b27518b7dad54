"""The chains for what users of this host send, in the order in which a packet meets them.

1. `redirected` (output, nat): TCP to the proxy, DNS to its resolver. What is addressed to this host is left alone.
2. `leaving` (output): of what is left, only loopback is open, and not the proxy's own ports.
3. `looping` (postrouting): what is addressed to loopback stays there. A socket that is bound to another interface would
   have it sent out by that one, redirected connections as well; only here is it known by which one a packet leaves.
4. `forwarding` (forward), where everybody but some is confined: nothing.

A packet without a socket belongs to no user: a reset that the kernel sends, or what is left to send of a connection
that was closed. Where users are named it passes. Where everybody but some is confined it is held, unless it is an
answer that stays on this host, or of a connection that bears the mark of those who are free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from egress.confine.gateway import Gateway, Ipv6, ThisHost
from egress.confine.gateway_words import BEFORE_OTHERS, DNS, IPV6, NEIGHBOURS, counted, hook, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.confine.gateway_words import Chains

_WHOM = "this-host"
_LOCAL = "fib daddr type local"
# A bit of the connections' mark: others may use the rest.
_FREE = 0x40000000
_LOOPBACK = ("ip daddr 127.0.0.0/8", "ip6 daddr ::1")


def this_host_chains(gateway: Gateway) -> Chains:
    """The chains of a gateway for this host's users."""
    confined = cast("ThisHost", gateway.confined)
    redirect: Chains = []
    if not gateway.closed:
        into = [hook("nat", "output", BEFORE_OTHERS), *_into(confined)]
        redirect = [("divert", list(_divert(gateway))), ("redirected", into)]
    leaving = [hook("filter", "output", "filter"), *_leaving(confined)]
    permitted = ("permitted", list(_permitted(gateway, confined)))
    looping = [hook("filter", "postrouting", "filter"), *_looping()]
    return [*redirect, permitted, ("leaving", leaving), ("looping", looping), *_forwarding(confined)]


def _forwarding(confined: ThisHost) -> Chains:
    # A container engine of the sandbox's own would send from behind a bridge, as no user of this host.
    refuse = [hook("filter", "forward", "filter"), counted("", "jump refuse", "rejected", _WHOM)]
    return [("forwarding", refuse)] if confined.except_uids else []


def _looping() -> Iterator[str]:
    # Whoever sends it: nothing that is meant to leave is addressed so. Nothing can be refused here, only dropped.
    yield from (counted(f'oifname != "lo" {there}', "drop", "rejected", _WHOM) for there in _LOOPBACK)


def _into(confined: ThisHost) -> Iterator[str]:
    if confined.uids:
        yield f"meta skuid {one_of(confined.uids)} jump divert"
        return
    yield f"meta skuid {one_of(confined.except_uids)} return"
    yield "jump divert"


def _leaving(confined: ThisHost) -> Iterator[str]:
    refused = f'counter jump refuse comment "rejected {_WHOM}"'
    if confined.uids:
        users = f"meta skuid {one_of(confined.uids)}"
        yield from (f"{users} jump permitted", f"{users} {refused}")
        return
    free = one_of(confined.except_uids)
    yield f"meta skuid {free} ct mark set ct mark | {_FREE:#x} accept"
    # `!=` matches no packet without a socket: only those come to the mark.
    yield f"meta skuid != {free} jump permitted"
    yield f"meta skuid != {free} {refused}"
    yield f"ct mark & {_FREE:#x} == {_FREE:#x} accept"
    yield from ("jump permitted", refused)


def _divert(gateway: Gateway) -> Iterator[str]:
    if gateway.ipv6 is Ipv6.REJECT:
        yield f"{IPV6} return"
    # Before loopback is left alone: a resolver there would carry questions out.
    if gateway.dns_port is None:
        yield "tcp dport 53 return"
    else:
        yield counted(f"{DNS} 53", f"redirect to :{gateway.dns_port}", "dns", _WHOM)
    yield f"{_LOCAL} return"
    yield counted("meta l4proto tcp", f"redirect to :{gateway.port}", "redirected", _WHOM)


def _permitted(gateway: Gateway, confined: ThisHost) -> Iterator[str]:
    yield f"ct direction reply {_LOCAL} accept"
    if confined.except_uids:
        yield f"{NEIGHBOURS} accept"
    if not gateway.closed:
        yield from (f"{there} tcp dport {gateway.port} ct status dnat accept" for there in _LOOPBACK)
        if gateway.dns_port is not None:
            yield from (f"{there} {DNS} {gateway.dns_port} accept" for there in _LOOPBACK)
    # As it was asked, whoever rewrote it since.
    yield "meta l4proto { tcp, udp } ct original proto-dst 53 return"
    yield f"{DNS} {one_of(dict.fromkeys((gateway.port, *confined.closed_ports)))} return"
    yield from (f"{there} accept" for there in _LOOPBACK)

"""Phrases of nftables that both forms of a gateway have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

type Chains = list[tuple[str, list[str]]]

DNS: Final = "meta l4proto { tcp, udp } th dport"
IPV6: Final = "meta nfproto ipv6"
# Without these a host with IPv6 reaches no neighbour at all; routers forward none of them.
NEIGHBOURS: Final = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }"
# About a connection that there is. No redirect: a sandbox has no say in how this host routes.
ABOUT_KNOWN: Final = (
    "ct state related icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
    "ct state related icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
)
# Ahead of others' chains at the same hook, which have -100: the first one that rewrites a connection wins.
BEFORE_OTHERS: Final = "-110"


def hook(kind: str, at: str, priority: str) -> str:
    """The first line of a chain that packets come through by themselves."""
    return f"type {kind} hook {at} priority {priority}; policy accept;"


def one_of(values: Iterable[object]) -> str:
    """A set that is written out."""
    return "{ " + ", ".join(str(value) for value in values) + " }"


def counted(match: str, verdict: str, kind: str, whom: str) -> str:
    """A rule that counts what it takes."""
    return f'{match} counter {verdict} comment "{kind} {whom}"'.strip()

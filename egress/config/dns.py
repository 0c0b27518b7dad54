"""What the resolver for sandboxes answers, where, and within which limits; and whom the proxy itself asks for names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final

from egress.policy import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

type NameServer = tuple[str, int]

DNS_PORT: Final = 53
# Of benchmarks (RFC 2544): no host on any network should have one.
_IPV4: Final = IPv4Network("198.18.0.0/15")
# Of our own (RFC 4193).
_IPV6: Final = IPv6Network("fd65:6772:6573:7300::/64")
_QUERIES: Final = Rate(3_000, 60)
_PARENT_QUERIES: Final = Rate(600, 60)
_PARENT_NAMES: Final = Rate(500, 3_600)


class DnsAnswers(StrEnum):
    """`synthetic`: an address of our own for each name. `real`: those that the name has, if they may be reached."""

    SYNTHETIC = "synthetic"
    REAL = "real"


@dataclass(frozen=True, slots=True)
class DnsLimits:
    """What a sandbox may ask in a time.

    `queries`: in all. `parent_queries`: for allowed names under one parent domain, the last two labels of a name;
    `parent_names`: how many different ones of these.
    """

    queries: Rate = _QUERIES
    parent_queries: Rate = _PARENT_QUERIES
    parent_names: Rate = _PARENT_NAMES


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """The resolver.

    `listen`: addresses, over UDP and TCP; none: nobody is answered. `ipv4`, `ipv6`: where synthetic addresses come
    from; None: there are none of that family. `keep_seconds`: how long one stays its name's without use, at least.
    `ttl`: seconds that a client may keep an answer. `servers`: whom the proxy asks; none: the system's. `zones`: whom
    it asks for names at and below a domain.
    """

    listen: tuple[tuple[str, int], ...] = ()
    answers: DnsAnswers = DnsAnswers.SYNTHETIC
    ipv4: IPv4Network | None = _IPV4
    ipv6: IPv6Network | None = _IPV6
    keep_seconds: float = 86_400.0
    ttl: int = 60
    servers: tuple[NameServer, ...] = ()
    zones: Mapping[str, tuple[NameServer, ...]] = field(default_factory=dict)
    limits: DnsLimits = field(default_factory=DnsLimits)

    @property
    def ranges(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Where synthetic addresses come from."""
        return tuple(network for network in (self.ipv4, self.ipv6) if network is not None)

    @property
    def gives(self) -> bool:
        """Whether it gives out synthetic addresses."""
        return bool(self.listen) and self.answers is DnsAnswers.SYNTHETIC

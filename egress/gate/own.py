"""Which destinations are the proxy itself: dialling one would loop, or reach a socket that trusts this host."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.policy import Address

_UPSTREAM_AT_MOST = 256
# What the kernel says of an address that is no machine's, or another's: no such address here, one that needs a scope,
# and a family that is switched off.
_FOREIGN = frozenset({errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT})


@dataclass(slots=True)
class OwnListeners:
    """The ports that this process listens on; an address is ours if this machine could bind it.

    `addresses` are ours at any port: the proxy stands in for what is there. `upstream`: where the upstream proxy is
    that connections go out by; a client that reached it could have it connect to anything.
    """

    ports: set[int] = field(default_factory=set)
    addresses: frozenset[Address] = frozenset()
    upstream: set[tuple[Address, int]] = field(default_factory=set)

    def includes(self, address: Address, port: int) -> bool:
        """True if a connection to `address`:`port` would come back to this process."""
        if self.addresses and address in self.addresses:
            return True
        if self.upstream and self.is_upstream(address, port):
            return True
        return port in self.ports and is_local(address)

    def is_upstream(self, address: Address, port: int) -> bool:
        """True if this is known to be the upstream proxy."""
        return (getattr(address, "ipv4_mapped", None) or address, port) in self.upstream

    def learn_upstream(self, address: Address, port: int) -> None:
        """Know the upstream proxy by this address as well; of a name that changes on and on, only the newest."""
        if len(self.upstream) >= _UPSTREAM_AT_MOST:
            self.upstream.clear()
        self.upstream.add((address, port))


def is_local(address: Address) -> bool:
    """Whether the address is one of this machine (or namespace): it could be bound here.

    INVARIANT fail-closed: also where that cannot be found out, as without a descriptor left.
    """
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _FOREIGN
    return True

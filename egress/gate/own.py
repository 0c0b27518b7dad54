"""Which destinations are the proxy itself: dialling one would loop, or reach a socket that trusts this host."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.policy import Address


@dataclass(slots=True)
class OwnListeners:
    """The ports that this process listens on; an address is ours if this machine could bind it.

    `addresses` are ours at any port: the proxy stands in for what is there.
    """

    ports: set[int] = field(default_factory=set)
    addresses: frozenset[Address] = frozenset()

    def includes(self, address: Address, port: int) -> bool:
        """True if a connection to `address`:`port` would come back to this process."""
        if self.addresses and address in self.addresses:
            return True
        if port not in self.ports:
            return False
        family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))
        except OSError:
            return False
        return True

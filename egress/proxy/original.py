"""Where a redirected connection was on its way to, as the kernel says it.

1. REDIRECT (NAT) rewrites the destination and remembers the original: SO_ORIGINAL_DST, for each family its own
2. TPROXY leaves the destination as it is: it is the accepted socket's own address
3. what the kernel does not know is None: nobody redirected the connection, so it leads nowhere
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from egress.policy import unmap

if TYPE_CHECKING:
    from egress.policy import Address

# linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h: the same number, at the level of each family.
_SO_ORIGINAL_DST: Final = 80
# linux/in.h, linux/in6.h; Python has names for neither.
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
# sockaddr_in: family, port, address, padding. sockaddr_in6: family, port, flow, address, scope.
_IPV4: Final = struct.Struct("!HH4s8x")
_IPV6: Final = struct.Struct("!HHI16sI")


def redirected(sock: socket.socket) -> tuple[Address, int] | None:
    """The original destination of a connection that REDIRECT brought here."""
    try:
        if sock.family is socket.AF_INET6:
            _, port, _, packed, _ = _IPV6.unpack(sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _IPV6.size))
            return unmap(IPv6Address(packed)), port
        _, port, packed = _IPV4.unpack(sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _IPV4.size))
    except (OSError, struct.error):
        return None
    return IPv4Address(packed), port


def unrewritten(sock: socket.socket) -> tuple[Address, int] | None:
    """The original destination of a connection that TPROXY brought here."""
    try:
        name = sock.getsockname()
        # Of an IPv6 address with a scope, only the address.
        return unmap(ip_address(str(name[0]).partition("%")[0])), int(name[1])
    except (OSError, ValueError):
        return None


def accept_foreign(sock: socket.socket) -> None:
    """Have a socket, before it is bound, take connections to addresses that are not ours. Raises OSError."""
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)

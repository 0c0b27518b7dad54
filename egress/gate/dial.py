"""Opening the one connection that a grant permits, to an address that was judged, and to no other.

Addresses are tried in order, each within its share of the time; the socket's peer is compared with what was asked
for before the connection is handed on.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.gate.grant import Grant
    from egress.policy import Address


@dataclass(frozen=True, slots=True)
class Dialled:
    """A connected, non-blocking stream socket, and the address that it leads to.

    `relayed`: by way of an upstream proxy. What the socket itself is connected to is then the proxy, or a relay of
    ours in front of it, and was compared when it was dialled.
    """

    sock: socket.socket
    address: Address
    relayed: bool = False

    def peer(self) -> Address:
        """Where it leads: the socket's own word, whatever dialled it, unless it is relayed. Raises OSError."""
        return self.address if self.relayed else ip_address(self.sock.getpeername()[0])


@dataclass(frozen=True, slots=True)
class DialFailure:
    """No address of the grant could be reached; `detail` is one sentence of ours. `errno`: of the last error, or 0."""

    detail: str
    errno: int = field(default=0, compare=False)


async def dial(grant: Grant, *, timeout_seconds: float) -> Dialled | DialFailure:
    """Connect to one of the grant's addresses. Never resolves a name; never raises for a network's failure."""
    if not grant.addresses:
        return DialFailure("no address to dial")
    share = max(timeout_seconds / len(grant.addresses), 0.5)
    failure = DialFailure("no address could be reached")
    try:
        async with asyncio.timeout(timeout_seconds):
            for address in grant.addresses:
                outcome = await _connect(address, grant.port, share)
                if isinstance(outcome, Dialled):
                    return outcome
                failure = outcome
    except TimeoutError:
        failure = _late()
    return failure


async def _connect(address: Address, port: int, seconds: float) -> Dialled | DialFailure:
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the method takes it so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        peer = ip_address(sock.getpeername()[0])
    except TimeoutError:
        sock.close()
        return _late()
    except OSError as error:
        sock.close()
        # Not `error.strerror`: asyncio writes the address into it, and this sentence goes to the client.
        told = os.strerror(error.errno) if error.errno else type(error).__name__
        return DialFailure(f"the connection failed: {told}", error.errno or 0)
    except BaseException:
        sock.close()
        raise
    if peer != address:  # INVARIANT one-name: the peer is an address that was judged
        sock.close()
        return DialFailure("the connection reached another address than the one judged")
    return Dialled(sock, address)


def _late() -> DialFailure:
    return DialFailure("the server did not accept the connection in time", errno.ETIMEDOUT)

"""The requests of a connection to the listener of the identity endpoints: read, recorded and answered; never carried.

1. a head is read as in the http lane, under the same limits
2. Host names the listener, or a metadata host that somebody has routed here: a page on another name that resolves here
   (DNS rebinding) reads nothing
3. only the gate's answer is told: nothing here could admit a request, or dial
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.gate.naming import Route, name_request, unnamed
from egress.policy import Host, Refusal, parse_authority, parse_host
from egress.proxy.http_lane import HttpLane

if TYPE_CHECKING:
    from egress.gate.denial import Denial
    from egress.proxy.connection import Connection
    from egress.proxy.http_lane import HttpParts
    from egress.wire.head import RequestHead


class IdentityLane(HttpLane):
    """The requests of one connection to the listener of the identity endpoints."""

    __slots__ = ("_here",)

    def __init__(self, connection: Connection, parts: HttpParts) -> None:
        self._here = _local(*connection.endpoint.sock.getsockname()[:2])
        super().__init__(connection, parts, self._here)

    async def _serve(self, head: RequestHead) -> bool:
        """One request; whether another may follow."""
        connection = self._connection
        stranger = await connection.identify(head)
        if stranger is not None:
            return await self._answer(head, await self._refused(head, stranger))
        named = name_request(head, connection.client.sandbox, self._route_of(head))
        if isinstance(named, Refusal):
            return await self._answer(head, await self._refused(head, named))
        connection.recorded += 1
        return await self._answer(head, await connection.gate.answer(connection.client, named))

    async def _refused(self, head: RequestHead, refusal: Refusal) -> Denial:
        request = unnamed(self._connection.client.sandbox, head, self._here)
        return await self._connection.refuse(request, refusal)

    def _route_of(self, head: RequestHead) -> Route:
        """What Host names, if that is one of the endpoints; else the listener, which Host is then held against."""
        named = parse_authority(head.host or "", 80)
        endpoints = self._connection.gate.endpoints
        if isinstance(named, Refusal) or endpoints is None or not endpoints.owns(*named):
            return self._here
        return Route(*named, tls=False)


def _local(address: str, port: int) -> Route:
    host = parse_host(address)
    # The kernel's own text of an address: it can be read.
    return Route(Host(address) if isinstance(host, Refusal) else host, port, tls=False)

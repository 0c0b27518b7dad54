"""A connection's first bytes: who asks, and where it wants to go; from there `Onward` carries it.

What a client says to the proxy is consumed exactly, so that whatever follows it is read by the lane that carries it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.gate.naming import name_connect
from egress.policy import Lane, Protocol, Request
from egress.proxy.connection import Phase
from egress.proxy.entrance import Kind
from egress.proxy.http_lane import HttpLane
from egress.proxy.identity_lane import IdentityLane
from egress.proxy.onward import set_lane
from egress.proxy.peeking import peek
from egress.proxy.roads import CONNECT, FORWARD
from egress.proxy.socks_opening import SocksOpening
from egress.proxy.transparent import TransparentOpening
from egress.wire.head import NeedMore, RequestHead, parse_request_head
from egress.wire.socks import SOCKS4, SOCKS5

if TYPE_CHECKING:
    from egress.proxy.connection import Connection
    from egress.proxy.http_lane import HttpParts
    from egress.proxy.onward import Onward

_PEEK = 65_536
_SOCKS = frozenset({SOCKS4, SOCKS5})


class Opening:
    """Carries one connection at a time through its opening, and on; one a worker."""

    def __init__(self, onward: Onward, http: HttpParts, forced: Lane | None) -> None:
        self._onward = onward
        self._http = http
        self._forced = forced
        self._socks = SocksOpening(onward)
        self._transparent = TransparentOpening(onward)

    async def carry(self, connection: Connection) -> None:
        """Everything from the accept to the end of the connection."""
        connection.expect(Phase.HEAD, connection.limits.head_seconds)
        kind = connection.entrance.kind
        if kind is Kind.PROXY:
            await self._asked(connection)
        elif kind is Kind.FORWARD:
            await self._forward(connection)
        elif kind is Kind.TRANSPARENT:
            await self._transparent.carry(connection)
        else:
            set_lane(connection, Lane.HTTP)
            await IdentityLane(connection, self._http).run()

    async def _asked(self, connection: Connection) -> None:
        """A client that says where it wants to go, in HTTP or SOCKS."""
        seen = await peek(connection, _PEEK)
        if not seen:
            return
        if seen[0] in _SOCKS:
            await self._socks.carry(connection, seen[0])
            return
        if self._forced is Lane.MITM:
            await self._onward.give_away(connection, None)
            return
        first = await self._first_head(connection, seen)
        if first is None:
            return
        if isinstance(first, bytes):
            set_lane(connection, Lane.HTTP)
            connect = await HttpLane(connection, self._http, None, first).run()
            if connect is None:
                return
            set_lane(connection, None)
            connection.expect(Phase.HEAD, connection.limits.head_seconds)
            first = connect
        await self._connect(connection, first)

    async def _first_head(self, connection: Connection, seen: bytes) -> RequestHead | bytes | None:
        """The head of a CONNECT, consumed exactly; else all bytes that are there; None if the client left.

        `seen` is there, and not consumed.
        """
        got = b""
        resume: NeedMore | None = None
        while True:
            head = parse_request_head(got + seen, resume=resume)
            connect = isinstance(head, RequestHead) and head.method == "CONNECT"
            used = head.length - len(got) if isinstance(head, RequestHead) and connect else len(seen)
            got += _consume(connection, used)
            if not isinstance(head, NeedMore):
                return head if isinstance(head, RequestHead) and connect else got
            resume = head
            seen = await peek(connection, _PEEK)
            if not seen:
                return None

    async def _forward(self, connection: Connection) -> None:
        """A client of a listener with one destination, which knows of no proxy."""
        destination = connection.entrance.destination
        if destination is None:
            raise LookupError("a forward leads nowhere")
        problem = await connection.identify(None)
        if problem is not None:
            request = Request(connection.client.sandbox, Protocol.TCP, *destination)
            await self._onward.tell(connection, FORWARD, await connection.refuse(request, problem))
            return
        await self._onward.towards(connection, *destination, FORWARD)

    async def _connect(self, connection: Connection, head: RequestHead) -> None:
        """Judge a CONNECT, answer it, and go on inside the tunnel."""
        (host, port), problem = name_connect(head, inside=False)
        problem = await connection.identify(head) or problem
        if problem is not None:
            request = Request(connection.client.sandbox, Protocol.HTTPS, host, port)
            await self._onward.tell(connection, CONNECT, await connection.refuse(request, problem))
            return
        await self._onward.towards(connection, host, port, CONNECT)


def _consume(connection: Connection, size: int) -> bytes:
    """Take bytes that were seen already off the socket."""
    return connection.endpoint.sock.recv(size) if size else b""

"""A connection's first bytes: who asks, and where it wants to go; from there `Onward` carries it.

A head is consumed exactly, so that whatever follows it is read by the lane that carries it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.gate.naming import name_connect
from egress.policy import Lane, Protocol, Request
from egress.proxy.connection import Phase
from egress.proxy.entrance import Kind
from egress.proxy.http_lane import HttpLane
from egress.proxy.identity_lane import IdentityLane
from egress.proxy.onward import set_lane, tell
from egress.proxy.peeking import peek
from egress.proxy.roads import CONNECT
from egress.wire.head import NeedMore, RequestHead, parse_request_head

if TYPE_CHECKING:
    from egress.proxy.connection import Connection
    from egress.proxy.http_lane import HttpParts
    from egress.proxy.onward import Onward

_PEEK = 65_536


class Opening:
    """Carries one connection at a time through its opening, and on; one a worker."""

    def __init__(self, onward: Onward, http: HttpParts, forced: Lane | None) -> None:
        self._onward = onward
        self._http = http
        self._forced = forced

    async def carry(self, connection: Connection) -> None:
        """Everything from the accept to the end of the connection."""
        connection.expect(Phase.HEAD, connection.limits.head_seconds)
        if connection.entrance.kind is Kind.ENDPOINTS:
            set_lane(connection, Lane.HTTP)
            await IdentityLane(connection, self._http).run()
            return
        if self._forced is Lane.MITM:
            await self._onward.give_away(connection, None)
            return
        first = await self._first_head(connection)
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

    async def _first_head(self, connection: Connection) -> RequestHead | bytes | None:
        """The head of a CONNECT, consumed exactly; else all bytes that are there; None if the client left."""
        got = b""
        resume: NeedMore | None = None
        while True:
            seen = await peek(connection, _PEEK)
            if not seen:
                return None
            head = parse_request_head(got + seen, resume=resume)
            connect = isinstance(head, RequestHead) and head.method == "CONNECT"
            used = head.length - len(got) if isinstance(head, RequestHead) and connect else len(seen)
            got += _consume(connection, used)
            if not isinstance(head, NeedMore):
                return head if isinstance(head, RequestHead) and connect else got
            resume = head

    async def _connect(self, connection: Connection, head: RequestHead) -> None:
        """Judge a CONNECT, answer it, and go on inside the tunnel."""
        (host, port), problem = name_connect(head, inside=False)
        problem = await connection.identify(head) or problem
        if problem is not None:
            request = Request(connection.client.sandbox, Protocol.HTTPS, host, port)
            await tell(connection, CONNECT, await connection.refuse(request, problem))
            return
        await self._onward.towards(connection, host, port, CONNECT)


def _consume(connection: Connection, size: int) -> bytes:
    """Take bytes that were seen already off the socket."""
    return connection.endpoint.sock.recv(size) if size else b""

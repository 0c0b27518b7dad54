"""The http lane: the requests of one connection, read, judged and carried one after the other.

1. read a head, strictly; what is none is refused, recorded and ends the connection
2. name the request and admit it by the gate; a refusal is a page, and the connection goes on where nothing is left of
   the request
3. carry it (`HttpExchange`), then read the next: answers are in the order of the requests by construction
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.gate.denial import Denial
from egress.gate.naming import early_problem, name_request, unnamed
from egress.policy import Reason, Refusal
from egress.proxy.connection import Phase
from egress.proxy.http_exchange import HttpExchange
from egress.proxy.lingering import linger
from egress.proxy.repeats import Repeats
from egress.wire.head import NeedMore, NoBody, Reject, RejectKind, RequestHead, parse_request_head
from egress.wire.outcome import malformed

if TYPE_CHECKING:
    from egress.gate.naming import Route
    from egress.proxy.connection import Connection
    from egress.proxy.upstreams import UpstreamPool


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What all connections of a worker share: kept upstreams, and the one buffer for bodies."""

    pool: UpstreamPool
    buffer: memoryview


class HttpLane:
    """The requests of one connection. `route` None: the client speaks to the proxy itself.

    `foreign`: the first bytes look like no HTTP. `rest` is what was read and not yet used.
    """

    __slots__ = ("_connection", "_foreign", "_parts", "_route", "repeats", "rest")

    def __init__(
        self, connection: Connection, parts: HttpParts, route: Route | None, rest: bytes = b"", *, foreign: bool = False
    ) -> None:
        self._connection = connection
        self._parts = parts
        self._route = route
        self._foreign = foreign
        self.rest = rest
        self.repeats = Repeats()

    async def run(self) -> RequestHead | None:
        """Carry requests until the connection ends; a CONNECT outside a tunnel is handed back, its head consumed."""
        while True:
            head = await self._read_head()
            if head is None:
                return None
            if isinstance(head, Reject):
                await self._refuse_unread(head)
                return None
            if head.method == "CONNECT" and self._route is None:
                if not self.rest:
                    return head
                # They belong to a tunnel that does not stand yet, and could not be given to whoever carries it.
                await self._refuse_unread(malformed("bytes follow a CONNECT before its answer"))
                return None
            if not await self._serve(head):
                return None

    async def _read_head(self) -> RequestHead | Reject | None:
        """The next head; None if the client left."""
        connection = self._connection
        buffer: bytes | bytearray = self.rest
        resume: NeedMore | None = None
        while True:
            if buffer:
                head = self.repeats.read(buffer) or parse_request_head(buffer, resume=resume)
                if not isinstance(head, NeedMore):
                    if isinstance(head, RequestHead):
                        self.repeats.learn(head, buffer)
                    self.rest = bytes(buffer[head.length :]) if isinstance(head, RequestHead) else b""
                    connection.expect(Phase.CARRYING, connection.limits.idle_seconds)
                    return head
                if connection.phase is not Phase.HEAD:
                    connection.expect(Phase.HEAD, connection.limits.head_seconds)
                resume = head
            data = await connection.endpoint.receive()
            if not data:
                return None
            buffer = data if not buffer else bytearray(buffer) + data

    async def _serve(self, head: RequestHead) -> bool:
        """One request; whether another may follow."""
        connection = self._connection
        if self._route is None and connection.gate.generation.roster is not None:
            stranger = await self._identify(head)
            if stranger is not None:
                denial = await connection.refuse(unnamed(connection.client.sandbox, head, None), stranger)
                return await self._answer(head, denial)
        named = self.repeats.name(head) or name_request(head, connection.client.sandbox, self._route)
        if not isinstance(named, Refusal):
            self.repeats.named(head, named)
            named = early_problem(head, self.rest) or named
        if isinstance(named, Refusal):
            denial = await connection.refuse(unnamed(connection.client.sandbox, head, self._route), named)
            return await self._answer(head, denial)
        exchange = HttpExchange(connection, self._parts, head, self)
        outcome = await exchange.admit(named)
        if isinstance(outcome, Denial):
            return await self._answer(head, outcome, consumed=exchange.consumed)
        keep = await exchange.carry(outcome)
        if keep:
            connection.expect(Phase.IDLE, connection.limits.idle_seconds)
        return keep

    async def _identify(self, head: RequestHead) -> Refusal | None:
        before = self._connection.client.sandbox
        stranger = await self._connection.identify(head)
        if self._connection.client.sandbox != before:
            # What was named before was another's.
            self.repeats = Repeats()
        return stranger

    async def _answer(self, head: RequestHead, denial: Denial, *, consumed: bool = False) -> bool:
        """Send a refusal's page; whether the connection can go on, since nothing of the request is left on it."""
        bodiless = consumed or isinstance(head.framing, NoBody)
        keep = bodiless and head.keep_alive
        await self._connection.endpoint.send(denial.http1(head_only=head.method == "HEAD", close=not keep))
        if not bodiless:
            await self.linger()
        elif keep:
            self._connection.expect(Phase.IDLE, self._connection.limits.idle_seconds)
        return keep

    async def _refuse_unread(self, rejected: Reject) -> None:
        connection = self._connection
        reason = Reason.LIMIT_HEAD if rejected.kind is RejectKind.TOO_LARGE else Reason.REQUEST_MALFORMED
        if self._foreign and reason is Reason.REQUEST_MALFORMED:
            reason = Reason.PROTOCOL_UNKNOWN
        request = unnamed(connection.client.sandbox, None, self._route)
        denial = await connection.refuse(request, Refusal(reason, rejected.detail))
        await connection.endpoint.send(denial.http1())
        await self.linger()

    async def linger(self) -> None:
        """Throw away what still comes, for a while: closing on unread bytes would take the answer away again."""
        await linger(self._connection.endpoint)

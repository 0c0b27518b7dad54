"""From a destination to its lane, whichever road the client took: judge it, look at the first bytes inside, carry it.

1. a TLS hello is only looked at, so that whichever lane follows reads it from the socket
2. the lane is the least that serves every rule that could match; it is picked before its first byte, for good
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from egress.errors import EgressError
from egress.gate.client_trust import why_ended
from egress.gate.denial import Denial, failure
from egress.gate.dial import DialFailure
from egress.gate.hello import hello_problem
from egress.gate.naming import Route
from egress.policy import Lane, Protocol, Reason, Refusal, Request, TlsMode
from egress.policy.lanes import Opened, pick_lane
from egress.proxy.connection import Phase
from egress.proxy.http_lane import HttpLane
from egress.proxy.peeking import peek
from egress.proxy.tunnel import TunnelLimits, carry
from egress.wire.client_hello import LARGEST_HELLO, ClientHello, parse_client_hello
from egress.wire.head import NeedMore

if TYPE_CHECKING:
    import socket

    from egress.gate.exchange import Exchange
    from egress.gate.gate import Destination
    from egress.policy import Host
    from egress.proxy.client_tls import ClientTls
    from egress.proxy.connection import Connection
    from egress.proxy.handing import HandOver
    from egress.proxy.http_lane import HttpParts
    from egress.proxy.pipes import PipePool
    from egress.proxy.roads import Road
    from egress.proxy.turns import Turns

logger = logging.getLogger(__name__)

# A fatal alert, access_denied (RFC 8446 section 6.2): the client's error then says more than "closed".
_TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x31"
_HANDSHAKE = 0x16
# The way to the other process is full for as long as a burst of connections takes, or the process to start.
_FULL_SECONDS = 2.0
_FULL_AGAIN_SECONDS = 0.02


class Onward:
    """Carries one connection at a time on to its destination; one a worker."""

    def __init__(
        self,
        tls: ClientTls,
        http: HttpParts,
        *,
        pipes: PipePool,
        hand_over: HandOver,
        forced: Lane | None,
        turns: Turns,
    ) -> None:
        self._tls = tls
        self._http = http
        self._pipes = pipes
        self._hand_over = hand_over
        self._forced = forced
        self._turns = turns

    async def towards(self, connection: Connection, host: Host, port: int, road: Road) -> None:
        """Judge a destination, tell the client, and go on inside."""
        judged = await connection.judge_connect(host, port)
        if isinstance(judged, Denial):
            await tell(connection, road, judged)
        elif judged.opaque and not (judged.https or judged.http):
            # Raw TCP: its server may be the first to speak.
            await self._tunnel(connection, judged, Protocol.TCP, owed=road)
        else:
            connection.bound = Request(connection.client.sandbox, Protocol.HTTPS, host, port)
            await connection.endpoint.send(road.established)
            connection.expect(Phase.HEAD, connection.limits.head_seconds)
            await self._inside(connection, judged)

    async def _inside(self, connection: Connection, destination: Destination) -> None:
        """Look at the first bytes inside a tunnel, and pick the lane."""
        hello: ClientHello | None = None
        seen = await peek(connection, 1)
        if not seen:
            return
        route = Route(destination.host, destination.port, tls=False)
        looks_like_http = seen.isalpha() and seen.isupper()
        if seen[0] == _HANDSHAKE and destination.https:
            hello = await self._hello(connection, destination)
            if hello is not None:
                await self._tls_inside(connection, destination, hello)
        elif destination.opaque and not looks_like_http:
            await self._tunnel(connection, destination, Protocol.TCP)
        else:
            set_lane(connection, Lane.HTTP)
            await HttpLane(connection, self._http, route, foreign=not looks_like_http).run()

    async def _hello(self, connection: Connection, destination: Destination) -> ClientHello | None:
        """The client's hello, if it is one for this destination; else its refusal is recorded and told."""
        seen = b""
        while True:
            seen = await peek(connection, LARGEST_HELLO, len(seen))
            if not seen:
                return None
            parsed = parse_client_hello(seen)
            if not isinstance(parsed, NeedMore):
                break
        problem = hello_problem(parsed, destination)
        if isinstance(parsed, ClientHello):
            connection.sni = parsed.sni
            if problem is None:
                connection.sni = destination.host.text
                return parsed
        if problem is not None:
            await connection.refuse(_https(connection, destination), problem)
        await connection.endpoint.send(_TLS_ALERT)
        return None

    async def _tls_inside(self, connection: Connection, destination: Destination, hello: ClientHello) -> None:
        tunnels = destination.tls is TlsMode.TUNNEL
        lane = pick_lane(Opened.TLS, tunnel=tunnels, alpn=hello.alpn, http2=destination.http2, forced=self._forced)
        if lane is Lane.TUNNEL:
            await self._tunnel(connection, destination, Protocol.HTTPS)
        elif lane is Lane.MITM:
            await self.give_away(connection, (destination.host.text, destination.port))
        else:
            await self._http_over_tls(connection, destination)

    async def _http_over_tls(self, connection: Connection, destination: Destination) -> None:
        host = destination.host.text
        set_lane(connection, Lane.HTTP)
        try:
            leaf = self._tls.known(host) or await self._tls.prepare(host)
        except (EgressError, ValueError):
            logger.exception("no certificate could be made")
            await connection.refuse(_https(connection, destination), Refusal(Reason.INTERNAL_ERROR, ""))
            return
        endpoint = connection.endpoint
        endpoint.secure(lambda sock: self._tls.wrap(sock, leaf))
        await self._turns.turn(connection.address)
        try:
            await endpoint.handshake()
        except OSError as error:
            refusal = Refusal(Reason.CLIENT_TLS, why_ended(str(error)))
            await connection.refuse(_https(connection, destination), refusal)
            return
        connection.expect(Phase.IDLE, connection.limits.idle_seconds)
        await HttpLane(connection, self._http, Route(destination.host, destination.port, tls=True)).run()

    async def _tunnel(
        self, connection: Connection, destination: Destination, protocol: Protocol, *, owed: Road | None = None
    ) -> None:
        """Admit a tunnel as a whole, dial, and carry it unopened. `owed`: the client has not been told yet."""
        set_lane(connection, Lane.TUNNEL)
        request = Request(connection.client.sandbox, protocol, destination.host, destination.port)
        outcome = await connection.admit(request)
        if isinstance(outcome, Denial):
            if owed is not None:
                await tell(connection, owed, outcome)
            return
        connection.expect(Phase.CARRYING, connection.limits.idle_seconds)
        secure = protocol is Protocol.HTTPS
        dialled = await connection.gate.dial(connection.book, destination.host.text, destination.port, tls=secure)
        if isinstance(dialled, DialFailure):
            reason = Reason.UPSTREAM_UNREACHABLE
            connection.finish(f"{reason.value}: {dialled.detail}")
            if owed is not None:
                await tell(connection, owed, failure(outcome, reason, dialled.detail))
            return
        with dialled.sock as upstream:
            await self._splice(connection, upstream, outcome, b"" if owed is None else owed.established)

    async def _splice(self, connection: Connection, upstream: socket.socket, exchange: Exchange, answer: bytes) -> None:
        if answer:
            await connection.endpoint.send(answer)
        # From here on the tunnel keeps its own time.
        connection.expect(Phase.CARRYING, float("inf"))
        own = connection.limits
        limits = TunnelLimits(own.idle_seconds, own.tunnel_seconds, own.tunnel_bytes)
        connection.endpoint.pause()
        connection.finish(await carry(connection.endpoint.sock, upstream, exchange, limits, self._pipes))

    async def give_away(self, connection: Connection, destination: tuple[str, int] | None) -> None:
        """Hand the connection over to the process that carries the rest."""
        client = replace(connection.client, lane=Lane.MITM.value)
        connection.bound = None
        sock = connection.endpoint.release()
        until = time.monotonic() + _FULL_SECONDS
        while not self._hand_over.hand_over(sock, client, destination):
            if time.monotonic() < until:
                await asyncio.sleep(_FULL_AGAIN_SECONDS)
                continue
            connection.client = client
            await connection.refuse_unread(Reason.INTERNAL_ERROR, "the process that carries this lane takes no more")
            break
        sock.close()


def set_lane(connection: Connection, lane: Lane | None) -> None:
    """Have rows tell of this lane from now on."""
    connection.client = replace(connection.client, lane=None if lane is None else lane.value)


def _https(connection: Connection, destination: Destination) -> Request:
    return Request(connection.client.sandbox, Protocol.HTTPS, destination.host, destination.port)


async def tell(connection: Connection, road: Road, denial: Denial) -> None:
    """Answer whoever asked for a destination with its refusal."""
    await connection.endpoint.send(road.refused(denial))
    connection.endpoint.say_no_more()

"""From a destination to its lane, whichever road the client took: judge it, look at the first bytes inside, carry it.

1. a TLS hello is only looked at, so that whichever lane follows reads it from the socket
2. the lane is the least that serves every rule that could match; it is picked before its first byte, for good
3. a refusal is told as the road tells it; where a road has no words, in what the client speaks, or by a reset
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from egress.config import DenyPage
from egress.errors import EgressError
from egress.gate.client_trust import why_ended
from egress.gate.denial import Denial, failure
from egress.gate.dial import DialFailure
from egress.gate.hello import hello_problem
from egress.gate.naming import Route
from egress.gate.own_answer import OwnAnswer
from egress.policy import Lane, Protocol, Reason, Refusal, Request, TlsMode, decide_question
from egress.policy.lanes import Opened, pick_lane
from egress.proxy.connection import Phase
from egress.proxy.denial_page import TLS_ALERT, DenialPages
from egress.proxy.first_bytes import HANDSHAKE, looks_like_http, peek_first, peek_hello
from egress.proxy.http_lane import HttpLane
from egress.proxy.lingering import linger
from egress.proxy.roads import CONNECT, Unsaid
from egress.proxy.tunnel import TunnelLimits, carry
from egress.wire.client_hello import ClientHello

if TYPE_CHECKING:
    import socket

    from egress.gate.connecting import Destination
    from egress.gate.exchange import Exchange
    from egress.policy import Host
    from egress.proxy.client_tls import ClientTls
    from egress.proxy.connection import Connection
    from egress.proxy.handing import HandOver
    from egress.proxy.http_lane import HttpParts
    from egress.proxy.pipes import PipePool
    from egress.proxy.roads import Road
    from egress.proxy.turns import Turns

logger = logging.getLogger(__name__)

# The way to the other process is full for as long as a burst of connections takes, or the process to start, which takes
# seconds on a small machine.
_FULL_SECONDS = 10.0
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
        deny_page: DenyPage = DenyPage.CONNECT,
    ) -> None:
        self._tls = tls
        self._http = http
        self._pipes = pipes
        self._hand_over = hand_over
        self._forced = forced
        self._turns = turns
        self._deny_page = deny_page
        self._pages = DenialPages(tls, turns)

    async def towards(
        self, connection: Connection, host: Host, port: int, road: Road, *, given: Host | None = None
    ) -> None:
        """Judge a destination, tell the client, and go on inside. `given`: the address that stands for `host`."""
        if road.refused is Unsaid.PAGE and await self._is_endpoint(connection, host, port):
            return
        judged = await connection.judge_connect(host, port)
        if isinstance(judged, Denial):
            await self._deny(connection, road, judged if given is None else _told(connection, host, given, judged))
        elif judged.opaque and not (judged.https or judged.http):
            # Raw TCP: its server may be the first to speak.
            await self._tunnel(connection, judged, Protocol.TCP, road, owed=True)
        else:
            connection.bound = Request(connection.client.sandbox, Protocol.HTTPS, host, port)
            if road.established:
                await connection.endpoint.send(road.established)
            connection.expect(Phase.HEAD, connection.limits.head_seconds)
            await self._inside(connection, judged, road)

    async def tell(self, connection: Connection, road: Road, denial: Denial, *, error: int = 0) -> None:
        """Answer whoever asked for a destination with its refusal. `error`: the errno of a dial that failed."""
        if road.refused is Unsaid.RESET:
            connection.endpoint.abort()
        elif road.refused is Unsaid.PAGE:
            # No client of this road has asked a proxy for anything.
            await self._pages.tell(connection, replace(denial, asks_who=False))
        else:
            await connection.endpoint.send(road.refused(denial, error))
            if road.lingers:
                connection.expect(Phase.IDLE, connection.limits.idle_seconds)
                await linger(connection.endpoint)
            else:
                connection.endpoint.say_no_more()

    async def _deny(self, connection: Connection, road: Road, denial: Denial) -> None:
        """Tell of a destination that is refused by its name."""
        # Who is asked for a token sends it to the proxy, and an endpoint's answer is no refusal.
        inside = self._deny_page is DenyPage.INSIDE_TLS and not (denial.asks_who or isinstance(denial, OwnAnswer))
        if inside and road.established:
            await connection.endpoint.send(road.established)
            await self._pages.tell(connection, denial)
        else:
            await self.tell(connection, road, denial)

    async def _is_endpoint(self, connection: Connection, host: Host, port: int) -> bool:
        """Carry requests to an identity endpoint, which the gate answers one by one; whether it is one."""
        endpoints = connection.gate.endpoints
        if endpoints is None or not endpoints.owns(host, port):
            return False
        set_lane(connection, Lane.HTTP)
        await HttpLane(connection, self._http, Route(host, port, tls=False)).run()
        return True

    async def _inside(self, connection: Connection, destination: Destination, road: Road) -> None:
        """Look at the first bytes inside a tunnel, and pick the lane."""
        seen = await peek_first(connection)
        if not seen:
            return
        http = looks_like_http(seen)
        handed = self._forced is Lane.MITM and road is not CONNECT
        if seen[0] == HANDSHAKE and destination.https:
            hello = await self._hello(connection, destination, road)
            if hello is not None:
                await self._tls_inside(connection, destination, hello, road)
        elif not http and not destination.opaque and isinstance(road.refused, Unsaid):
            await self._deny_unknown(connection, destination, road)
        elif handed:
            await self.give_away(connection, (destination.host.text, destination.port))
        elif destination.opaque and not http:
            await self._tunnel(connection, destination, Protocol.TCP, road)
        else:
            set_lane(connection, Lane.HTTP)
            route = Route(destination.host, destination.port, tls=False)
            await HttpLane(connection, self._http, route, foreign=not http).run()

    async def _deny_unknown(self, connection: Connection, destination: Destination, road: Road) -> None:
        """Neither HTTP nor TLS where nothing else may pass, from a client that awaits no words of a proxy's."""
        denial = await connection.refuse(_https(connection, destination), Refusal(Reason.PROTOCOL_UNKNOWN, ""))
        await self.tell(connection, road, denial)

    async def _hello(self, connection: Connection, destination: Destination, road: Road) -> ClientHello | None:
        """The client's hello, if it is one for this destination; else its refusal is recorded and told."""
        parsed = await peek_hello(connection)
        if parsed is None:
            return None
        problem = hello_problem(parsed, destination)
        if isinstance(parsed, ClientHello):
            connection.sni = parsed.sni
            if problem is None:
                connection.sni = destination.host.text
                return parsed
        denial = None if problem is None else await connection.refuse(_https(connection, destination), problem)
        if denial is not None and isinstance(road.refused, Unsaid):
            await self.tell(connection, road, denial)
        else:
            await connection.endpoint.send(TLS_ALERT)
        return None

    async def _tls_inside(
        self, connection: Connection, destination: Destination, hello: ClientHello, road: Road
    ) -> None:
        tunnels = destination.tls is TlsMode.TUNNEL
        lane = pick_lane(Opened.TLS, tunnel=tunnels, alpn=hello.alpn, http2=destination.http2, forced=self._forced)
        if lane is Lane.TUNNEL:
            await self._tunnel(connection, destination, Protocol.HTTPS, road)
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
        self, connection: Connection, destination: Destination, protocol: Protocol, road: Road, *, owed: bool = False
    ) -> None:
        """Admit a tunnel as a whole, dial, and carry it unopened. `owed`: the client has not been told yet."""
        owes = owed or isinstance(road.refused, Unsaid)
        set_lane(connection, Lane.TUNNEL)
        request = Request(connection.client.sandbox, protocol, destination.host, destination.port)
        outcome = await connection.admit(request)
        if isinstance(outcome, Denial):
            if owes:
                await self._tell_raw(connection, road, outcome, 0)
            return
        connection.expect(Phase.CARRYING, connection.limits.idle_seconds)
        secure = protocol is Protocol.HTTPS
        dialled = await connection.gate.dial(connection.book, destination.host.text, destination.port, tls=secure)
        if isinstance(dialled, DialFailure):
            reason = Reason.UPSTREAM_UNREACHABLE
            connection.finish(f"{reason.value}: {dialled.detail}")
            if owes:
                await self._tell_raw(connection, road, failure(outcome, reason, dialled.detail), dialled.errno)
            return
        with dialled.sock as upstream:
            await self._splice(connection, upstream, outcome, road.established if owed else b"")

    async def _tell_raw(self, connection: Connection, road: Road, denial: Denial, error: int) -> None:
        """Tell of a tunnel that is not to be: where its road has no words, its client speaks none that we know."""
        if isinstance(road.refused, Unsaid):
            connection.endpoint.abort()
        else:
            await self.tell(connection, road, denial, error=error)

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
        until = time.monotonic() + _FULL_SECONDS
        # Whatever ends the wait: once it is released, nobody else closes it.
        with connection.endpoint.release() as sock:
            while not self._hand_over.hand_over(sock, client, destination):
                if time.monotonic() < until:
                    await asyncio.sleep(_FULL_AGAIN_SECONDS)
                    continue
                connection.client = client
                detail = "the process that carries this lane takes no more"
                await connection.refuse_unread(Reason.INTERNAL_ERROR, detail)
                break


def set_lane(connection: Connection, lane: Lane | None) -> None:
    """Have rows tell of this lane from now on."""
    connection.client = replace(connection.client, lane=None if lane is None else lane.value)


def _told(connection: Connection, host: Host, given: Host, denial: Denial) -> Denial:
    """A refusal as it is told to who came by an address that our DNS gave out, perhaps to somebody else.

    Who may not ask DNS for a name does not learn here that another sandbox did.
    """
    sandbox = connection.client.sandbox
    policy = connection.gate.generation.policy_of(sandbox)
    if policy is not None and decide_question(policy, sandbox, host).decision.allowed:
        return denial
    return replace(denial, host=given.text, detail="", rule=None)


def _https(connection: Connection, destination: Destination) -> Request:
    return Request(connection.client.sandbox, Protocol.HTTPS, destination.host, destination.port)

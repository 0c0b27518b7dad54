"""The mitm lane: which hook of mitmproxy asks what, and what a connection may be while it lives.

`tunnels` has the hooks up to the first request, `exchanges` those of each request, `answers` those of what comes back.
Before each hook its data is put in the state of refusal (`arming.arm`); a hook's last statement takes it out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mitmproxy import http

from egress.gate.dial import DialFailure
from egress.gate.naming import unnamed
from egress.gate.standing import Standing
from egress.mitm.answers import AnswerHooks, exchange_of, finish
from egress.mitm.arming import ANSWERED
from egress.mitm.arrival import Carrier
from egress.mitm.connection import ClientConnection, peer_of
from egress.mitm.exchanges import ExchangeHooks
from egress.mitm.tunnels import TunnelHooks
from egress.policy import Lane, Protocol, Reason, Request

if TYPE_CHECKING:
    from mitmproxy.connection import Client as MitmClient
    from mitmproxy.connection import Connection, Server
    from mitmproxy.proxy.commands import StartHook
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
    from mitmproxy.proxy.server_hooks import ServerConnectionHookData

    from egress.gate.dial import Dialled
    from egress.gate.gate import Gate
    from egress.mitm.contexts import TlsContexts

logger = logging.getLogger(__name__)

# What carries a connection, and with which certificate, no other addon has a say in.
_OURS_ALONE = frozenset({"next_layer", "tls_start_client", "tls_start_server", "dns_request"})

# Hooks at which a request, a tunnel or the way to one is at stake, so that their failure is a refusal to record.
_JUDGING = frozenset(
    {
        "http_connect",
        "http_connected",
        "next_layer",
        "tls_clienthello",
        "tls_start_client",
        "tls_established_client",
        "requestheaders",
        "egress_head_refused",
    }
)

type Hook = Callable[[ClientConnection, Any], Awaitable[None]]


class MitmLane:
    """Judges the flows of mitmproxy's handlers by a gate. One a process (see `attachment`)."""

    def __init__(
        self,
        gate: Gate,
        contexts: TlsContexts,
        *,
        connections_at_most: int = 1024,
        head_seconds: float = 10.0,
        tls_seconds: float = 10.0,
        hook_seconds: float = 45.0,
        others: Callable[[ProxyConnectionHandler, StartHook], Awaitable[None]] | None = None,
    ) -> None:
        self.gate = gate
        self.hook_seconds = hook_seconds
        self.connections: dict[str, ClientConnection] = {}
        gate.standing = self._standing
        gate.clients = lambda: [connection.client.sandbox for connection in self.connections.values()]
        self._connections_at_most = connections_at_most
        self._head_seconds = head_seconds
        self._tls_seconds = tls_seconds
        self._others = others
        self._tunnels = tunnels = TunnelHooks(gate, contexts)
        exchanges = ExchangeHooks(gate)
        self._answers = answers = AnswerHooks(gate, exchanges.bodies)
        self._hooks: dict[str, Hook] = {
            "client_disconnected": self._client_disconnected,
            "server_connect": self._server_connect,
            "next_layer": tunnels.next_layer,
            "http_connect": tunnels.http_connect,
            "http_connected": tunnels.http_connected,
            "tls_clienthello": tunnels.tls_clienthello,
            "tls_start_client": tunnels.tls_start_client,
            "tls_established_client": tunnels.tls_established_client,
            "tls_failed_client": tunnels.tls_failed_client,
            "tls_start_server": tunnels.tls_start_server,
            "tls_established_server": tunnels.tls_established_server,
            "requestheaders": exchanges.requestheaders,
            "request": exchanges.bodies.request,
            "egress_body_refused": exchanges.bodies.body_refused,
            "egress_upstream_ready": exchanges.upstream_ready,
            "egress_body_part": exchanges.body_part,
            "egress_head_refused": exchanges.head_refused,
            "responseheaders": self._responseheaders,
            "response": answers.response,
            "error": answers.error,
            "websocket_message": answers.websocket_message,
            "websocket_end": answers.websocket_end,
        }

    # dispatch

    async def run(self, handler: ProxyConnectionHandler, hook: StartHook, data: Any) -> None:
        """Run the other addons' hooks, then ours, which has the last word."""
        if self._others is not None and hook.name not in _OURS_ALONE:
            await self._others(handler, hook)
        if hook.name == "client_connected":
            await self._client_connected(handler, data)
            return
        connection = self.connections.get(handler.client.id)
        ours = self._hooks.get(hook.name)
        if connection is not None and ours is not None:
            connection.busy += 1
            try:
                await ours(connection, data)
            finally:
                connection.busy -= 1

    async def hook_failed(self, handler: ProxyConnectionHandler, name: str, data: Any) -> None:
        """A hook of any kind raised or hung: record a refusal where a request was at stake, and end the rest."""
        connection = self.connections.get(handler.client.id)
        if connection is None:
            return
        exchange = exchange_of(data) if isinstance(data, http.HTTPFlow) else None
        if exchange is not None:
            connection.book.drop(exchange.id)
            finish(connection, exchange, Reason.INTERNAL_ERROR.value)
        if name in _JUDGING:
            try:
                await self.gate.refuse_unread(connection.client, Reason.INTERNAL_ERROR, "")
                connection.recorded += 1
            except Exception:
                logger.exception("a refusal could not be recorded")
        if name == "client_disconnected":
            self.connections.pop(handler.client.id, None)
            connection.finish(Reason.INTERNAL_ERROR.value)
        elif name not in ANSWERED:
            connection.finish(Reason.INTERNAL_ERROR.value)
            connection.close()

    # what the layers ask and tell between hooks

    def handler_of(self, client: MitmClient) -> ProxyConnectionHandler | None:
        """What carries a client's connection, while the lane knows of it."""
        connection = self.connections.get(client.id)
        return None if connection is None else connection.handler

    def in_tunnel(self, client: MitmClient) -> bool:
        """Whether an allowed CONNECT came before."""
        connection = self.connections.get(client.id)
        return connection is not None and connection.destination is not None

    def head_incomplete(self, client: MitmClient, *, started: bool) -> None:
        """Part of a head is here: the rest must follow in time."""
        connection = self.connections.get(client.id)
        if connection is not None and started:
            connection.await_head()

    def head_complete(self, client: MitmClient) -> None:
        """A head is here."""
        connection = self.connections.get(client.id)
        if connection is not None:
            connection.met()

    def charged(
        self, handler: ProxyConnectionHandler, source: Connection, size: int
    ) -> Coroutine[Any, Any, int] | None:
        """Bytes were read that no hook will see: how many of them may pass. None: as many as came."""
        connection = self.connections.get(handler.client.id)
        if connection is None or connection.limited is None:
            return None
        return connection.charge(source, size)

    def overdrawn(self, handler: ProxyConnectionHandler) -> None:
        """Fewer could pass than came: it ends here."""
        connection = self.connections.get(handler.client.id)
        if connection is not None:
            connection.end_limited()

    def received(self, handler: ProxyConnectionHandler, source: Connection, size: int) -> None:
        """Bytes were read from a client or an upstream."""
        connection = self.connections.get(handler.client.id)
        if connection is not None:
            connection.count(source, size)

    def _standing(self) -> Iterator[Standing]:
        """What a reload may find idle: nothing is judged or carried on it."""
        for connection in self.connections.values():
            destination = connection.destination
            if destination is not None and connection.idle:
                request = Request(connection.client.sandbox, Protocol.HTTPS, destination.host, destination.port)
                yield Standing(connection.client, request, connection.cut)
            elif connection.client.settled and connection.idle:
                request = unnamed(connection.client.sandbox, None, None)
                yield Standing(connection.client, request, connection.cut, bound=False)

    def crashed(self, handler: ProxyConnectionHandler) -> None:
        """A layer raised: what was under way ends with an error."""
        connection = self.connections.get(handler.client.id)
        if connection is not None:
            connection.finish(Reason.INTERNAL_ERROR.value)

    def held_too_much(self, handler: ProxyConnectionHandler) -> None:
        """The connection is about to be closed for what it holds."""
        connection = self.connections.get(handler.client.id)
        if connection is not None:
            connection.finish(Reason.LIMIT_MEMORY.value)

    async def dial(self, handler: ProxyConnectionHandler, server: Server) -> Dialled | DialFailure:
        """Open what the connection's grants permit."""
        connection = self.connections[handler.client.id]
        host, port = server.address or ("", 0)
        try:
            outcome = await self.gate.dial(connection.book, host, port, tls=server.tls)
        except Exception:
            if connection.tunnel is not None:
                connection.tunnel.finish(Reason.INTERNAL_ERROR.value)
            raise
        if isinstance(outcome, DialFailure) and connection.tunnel is not None:
            connection.tunnel.finish(f"{Reason.UPSTREAM_UNREACHABLE.value}: {outcome.detail}")
        return outcome

    def opened(self, handler: ProxyConnectionHandler, server: Server) -> None:
        """An upstream accepted: if it is to speak TLS, its handshake must end in time."""
        connection = self.connections.get(handler.client.id)
        if server.tls and connection is not None and connection.tunnel is None:
            asyncio.get_running_loop().call_later(self._tls_seconds, _end_unfinished_tls, handler, server)

    async def _client_connected(self, handler: ProxyConnectionHandler, client: MitmClient) -> None:
        arrival = handler.arrival if isinstance(handler, Carrier) else None
        known = self.gate.arrived(*peer_of(client)) if arrival is None else arrival.client
        asking = replace(known, lane=Lane.MITM.value)
        connection = ClientConnection(handler, asking, self._head_seconds, on_slow=self._too_slow)
        if len(self.connections) >= self._connections_at_most:
            await self.gate.refuse_unread(connection.client, Reason.LIMIT_CONNECTIONS, "")
            return
        self.connections[client.id] = connection
        if arrival is not None and arrival.destination is not None:
            await self._tunnels.arrived(connection, *arrival.destination)
            if connection.destination is None:
                return
        connection.await_head()
        client.error = None

    async def _responseheaders(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        if connection.handshakes:
            self._tunnels.answered(connection, flow.server_conn.id)
        await self._answers.responseheaders(connection, flow)

    async def _client_disconnected(self, connection: ClientConnection, client: MitmClient) -> None:
        self.connections.pop(client.id, None)
        connection.finish("client-closed")

    def _too_slow(self, connection: ClientConnection) -> None:
        connection.recorded += 1
        task = asyncio.ensure_future(self.gate.refuse_unread(connection.client, Reason.LIMIT_TIME, "the head"))
        task.add_done_callback(lambda _: connection.close())

    async def _server_connect(self, connection: ClientConnection, data: ServerConnectionHookData) -> None:
        # The gate opens connections on a grant; this lets mitmproxy's own addons see which.
        if len(connection.book):
            data.server.error = None


def _end_unfinished_tls(handler: ProxyConnectionHandler, server: Server) -> None:
    transport = handler.transports.get(server)
    if transport is not None and transport.handler is not None and not server.tls_established:
        transport.handler.cancel("the TLS handshake took too long")

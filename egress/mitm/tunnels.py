"""The hooks of a connection's way to its first request: which layer, CONNECT, the TLS hello, both TLS handshakes.

1. CONNECT       the destination, by name: a readable 403, or go on (`Gate.judge_connect`); a CONNECT that another
                 process answered is judged when its connection arrives
2. first bytes   a TLS hello, HTTP, or raw TCP where a rule allows that
3. ClientHello   SNI is the destination; what stays unopened is admitted here, as a whole (`Gate.admit`)
4. handshakes    our leaf for the judged name towards the client, the judged name verified towards the upstream
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import layers
from mitmproxy.proxy.layers.http import HTTPMode

from egress.gate.client_trust import why_ended
from egress.gate.denial import Denial
from egress.gate.gate import Asked
from egress.gate.hello import hello_problem
from egress.gate.naming import NOWHERE, name_connect
from egress.mitm.arming import refusal
from egress.mitm.http1 import HEAD
from egress.mitm.http_layer import PromptHttpLayer
from egress.mitm.sessions import Place
from egress.mitm.stream import RAW
from egress.policy import Host, Protocol, Reason, Refusal, Request, TlsMode, parse_host
from egress.proxy.first_bytes import looks_like_http, tells_protocol
from egress.wire.client_hello import parse_client_hello

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.proxy.layer import NextLayer
    from mitmproxy.tls import ClientHelloData, TlsData

    from egress.gate.connecting import Destination
    from egress.gate.gate import Gate
    from egress.mitm.connection import ClientConnection
    from egress.mitm.contexts import TlsContexts
    from egress.wire.head import RequestHead

_TLS_RECORD_HANDSHAKE = 0x16


class TunnelHooks:
    """Asks the gate where a connection may lead."""

    def __init__(self, gate: Gate, contexts: TlsContexts) -> None:
        self._gate = gate
        self._contexts = contexts

    async def next_layer(self, connection: ClientConnection, question: NextLayer) -> None:
        """Say what the bytes of a connection are; what no layer fits is refused by HTTP's parser."""
        context = question.context
        if context.client.state is ConnectionState.CLOSED:
            # A TLS layer that starts on an ended connection fails at the bytes that came before the end.
            return
        data = question.data_client()
        destination = connection.destination
        # A connection that was handed over with its destination begins inside the tunnel.
        if destination is None and len(context.layers) == 1:
            question.layer = PromptHttpLayer(context, HTTPMode.regular)
            return
        opened = bool(context.client.tls)
        # Inside TLS there is one protocol: its parser waits for the rest of a head, with a deadline.
        if not (data if opened else tells_protocol(data)):
            return
        if destination is None:
            raise LookupError("a layer is asked for before any destination is known")
        if not opened and data[0] == _TLS_RECORD_HANDSHAKE and destination.https:
            server_tls = layers.ServerTLSLayer(context)
            server_tls.child_layer = layers.ClientTLSLayer(context)
            question.layer = server_tls
        elif not opened and destination.opaque and not looks_like_http(data):
            await self._admit_tunnel(connection, destination, Protocol.TCP, None)
            await _count_first(connection, len(data))
            question.layer = layers.TCPLayer(context, ignore=True)
        else:
            connection.foreign = not (opened or looks_like_http(data))
            question.layer = PromptHttpLayer(context, HTTPMode.transparent)

    async def http_connect(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """Judge the destination of a CONNECT, before anything is resolved."""
        connection.met()
        named, problem = _connect_target(flow, inside=connection.destination is not None)
        head: RequestHead | None = getattr(flow.request, HEAD, None)
        if head is not None and connection.destination is None:
            problem = connection.identify(self._gate, head) or problem
        if problem is not None:
            request = Request(connection.client.sandbox, Protocol.HTTPS, *named)
            denial = await self._gate.refuse(connection.client, request, problem.reason, problem.detail)
            connection.recorded += 1
            flow.response = refusal(denial)
            return
        host, port = named
        judged = await self._gate.judge_connect(connection.client, host, port)
        if isinstance(judged, Denial):
            connection.recorded += 1
            flow.response = refusal(judged)
            return
        connection.destination = judged
        # `data`, because the properties would also rewrite Host.
        flow.request.data.host, flow.request.data.port = host.text, port
        if judged.opaque and not (judged.https or judged.http):
            flow.metadata[RAW] = True
            refused = await self._admit_tunnel(connection, judged, Protocol.TCP, None)
            if refused is not None:
                flow.response = refusal(refused)
                return
        flow.response = None

    async def arrived(self, connection: ClientConnection, host: str, port: int) -> None:
        """Judge the destination of a CONNECT that another process answered; allowed, it becomes the connection's."""
        named = parse_host(host)
        if isinstance(named, Refusal):
            await self._gate.refuse_unread(connection.client, named.reason, named.detail)
            connection.recorded += 1
            return
        judged = await self._gate.judge_connect(connection.client, named, port)
        if isinstance(judged, Denial):
            connection.recorded += 1
            return
        connection.destination = judged
        connection.handler.layer.context.server.address = (judged.host.text, judged.port)

    async def http_connected(self, connection: ClientConnection, _flow: http.HTTPFlow) -> None:
        """The tunnel stands: its first bytes must come in time."""
        if connection.tunnel is None:
            connection.await_head()

    async def _admit_tunnel(
        self, connection: ClientConnection, destination: Destination, protocol: Protocol, sni: str | None
    ) -> Denial | None:
        """Admit what passes unopened; without its grant the layer that carries it cannot open a connection."""
        request = Request(connection.client.sandbox, protocol, destination.host, destination.port)
        outcome = await self._gate.admit(
            Asked(connection.client, request, connection.book, lambda _: connection.close(), sni)
        )
        connection.recorded += 1
        if isinstance(outcome, Denial):
            return outcome
        connection.met()
        connection.tunnel = outcome
        connection.limited = None if outcome.quota is None else outcome
        if connection.closed:
            outcome.finish("client-closed")
        return None

    # 3. TLS

    async def tls_clienthello(self, connection: ClientConnection, data: ClientHelloData) -> None:
        """Check the hello's name; admit what stays unopened."""
        destination = connection.destination
        if destination is None:
            raise LookupError("a TLS hello before any destination is known")
        problem = hello_problem(parse_client_hello(data.client_hello.raw_bytes(wrap_in_record=True)), destination)
        if problem is not None:
            await self._refuse_hello(connection, destination, problem.reason, problem.detail, sni=data.client_hello.sni)
        elif destination.tls is TlsMode.TUNNEL:
            # Admitted or not: without a grant the tunnel's layer opens nothing and closes.
            await self._admit_tunnel(connection, destination, Protocol.HTTPS, destination.host.text)
            await _count_first(connection, len(data.client_hello.raw_bytes()))
            data.ignore_connection = True
        else:
            connection.hello_checked = True

    async def _refuse_hello(
        self, connection: ClientConnection, destination: Destination, reason: Reason, detail: str, *, sni: str | None
    ) -> None:
        request = Request(connection.client.sandbox, Protocol.HTTPS, destination.host, destination.port)
        await self._gate.refuse(connection.client, request, reason, detail, sni=sni)
        connection.recorded += 1

    async def tls_start_client(self, connection: ClientConnection, data: TlsData) -> None:
        """Present our leaf for the name that was judged."""
        if not connection.hello_checked or connection.destination is None:
            data.ssl_conn = None
            return
        data.ssl_conn = await self._contexts.towards_client(connection.destination.host.text)

    async def tls_established_client(self, connection: ClientConnection, _data: TlsData) -> None:
        """The client trusts our CA."""
        connection.met()

    async def tls_failed_client(self, connection: ClientConnection, data: TlsData) -> None:
        """The client broke the handshake off, and may have said why."""
        destination = connection.destination
        if connection.recorded or destination is None:
            return
        detail = why_ended(data.conn.error or "")
        await self._refuse_hello(connection, destination, Reason.CLIENT_TLS, detail, sni=destination.host.text)

    async def tls_start_server(self, connection: ClientConnection, data: TlsData) -> None:
        """Name and verify the host that was judged."""
        server = data.conn
        if not isinstance(server, Server) or server.address is None or server.peername is None:
            data.ssl_conn = None
            return
        # INVARIANT one-name: the name that was judged is the one sent and verified, whatever the client's hello said.
        server.sni = server.address[0]
        # Never a newer version than the client speaks: its connection could not carry the answer as it came.
        spoken = data.context.client.alpn
        offers = (b"h2", b"http/1.1") if spoken == b"h2" else (b"http/1.1",) if spoken else ()
        server.alpn_offers = list(offers)
        tls = self._contexts.towards_upstream(server.sni, offers)
        place = Place(connection.client.sandbox, *server.address, server.peername[0])
        connection.handshakes[server.id] = self._contexts.sessions.begin(place, tls)
        data.ssl_conn = tls

    async def tls_established_server(self, connection: ClientConnection, data: TlsData) -> None:
        """Remember that our verifying context did this handshake."""
        if data.ssl_conn is not None and self._contexts.is_verifying(data.ssl_conn):
            connection.verified.add(data.conn.id)

    def answered(self, connection: ClientConnection, server: str) -> None:
        """An upstream answers: with its first answer came what the next connection to it needs."""
        handshake = connection.handshakes.pop(server, None)
        if handshake is not None and server in connection.verified:
            self._contexts.sessions.keep(handshake)


async def _count_first(connection: ClientConnection, size: int) -> None:
    """Count what was read before the tunnel was admitted."""
    if connection.tunnel is None:
        return
    if connection.limited is not None and await connection.charge(connection.handler.client, size) < size:
        connection.end_limited()
        return
    connection.tunnel.bytes_up += size


def _connect_target(flow: http.HTTPFlow, *, inside: bool) -> tuple[tuple[Host, int], Refusal | None]:
    head: RequestHead | None = getattr(flow.request, HEAD, None)
    if head is None:
        return NOWHERE, Refusal(Reason.REQUEST_MALFORMED, "a CONNECT over HTTP/2")
    return name_connect(head, inside=inside)

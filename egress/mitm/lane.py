"""The hooks of the mitm lane: what each moment of a connection's life asks the gate.

1. client_connected     room for one more? the clock for its first head starts
2. http_connect         the destination, by name: 403 or go on (`Gate.judge_connect`)
3. tls_clienthello      SNI is the destination; an unopened tunnel is admitted here (`Gate.admit`)
4. requestheaders       each request anew (`Gate.admit`); refused ones are answered at once
5. egress_upstream_ready  the connection that will carry it (`Gate.ready`), then header changes, secrets last
6. responseheaders      what the upstream may not say is taken out; bodies are counted as they stream
7. response, error, websocket_end, client_disconnected  the outcome, once

Before each hook its data is put in the state of refusal (`handler.arm`); the hook's last statement takes it out.
"""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy import layers
from mitmproxy.proxy.layers.http import HTTPMode

from egress.credentials.headers import apply_headers, strip_hop_by_hop
from egress.gate.denial import DECISION_HEADER, Denial
from egress.gate.exchange import Client, Exchange
from egress.gate.gate import Destination
from egress.gate.naming import Route, name_request
from egress.mitm.connection import ClientConnection, peer_text
from egress.mitm.handler import refusal
from egress.mitm.http1 import HEAD
from egress.mitm.http2 import head_of
from egress.mitm.stream import BODY, FAILURE, INVALID, RAW, Failure
from egress.policy import Host, Protocol, Reason, Refusal, Request, TlsMode, parse_authority
from egress.wire.client_hello import ClientHello, parse_client_hello
from egress.wire.head import NoBody, Reject, RejectKind, RequestHead

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mitmproxy.connection import Client as MitmClient
    from mitmproxy.connection import Connection
    from mitmproxy.proxy.commands import StartHook
    from mitmproxy.proxy.layer import NextLayer
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
    from mitmproxy.proxy.server_hooks import ServerConnectionHookData
    from mitmproxy.tls import ClientHelloData, TlsData

    from egress.gate.dial import DialFailure, Dialled
    from egress.gate.gate import Gate
    from egress.mitm.contexts import TlsContexts
    from egress.mitm.hooks_of_ours import RefusedHead, UpstreamUse
    from egress.policy import Address

logger = logging.getLogger(__name__)

EXCHANGE = "egress.exchange"
NAMED = "egress.named"
SANDBOX = "default"

# A refused request's body is thrown away for this long, so that the client reads the refusal, before the cut.
_LINGER_SECONDS = 5.0
_SWITCHING_PROTOCOLS = 101
_TLS_RECORD_HANDSHAKE = 0x16

# What an upstream may not tell a client: our own verdict, a way around us (HTTP/3), its connection's affairs.
_NOT_FOR_CLIENTS = frozenset(
    {DECISION_HEADER.lower().encode(), b"alt-svc", b"proxy-authenticate", b"proxy-connection", b"keep-alive"}
)

# What carries a connection, and with which certificate, no other addon has a say in.
_OURS_ALONE = frozenset({"next_layer", "tls_start_client", "tls_start_server", "dns_request"})

type Hook = Callable[[ClientConnection, Any], Awaitable[None]]


class MitmLane:
    """Judges the flows of mitmproxy's handlers by a gate. One a process (see `guard.attach`)."""

    def __init__(
        self,
        gate: Gate,
        contexts: TlsContexts,
        *,
        connections_at_most: int = 1024,
        head_seconds: float = 10.0,
        hook_seconds: float = 45.0,
        others: Callable[[ProxyConnectionHandler, StartHook], Awaitable[None]] | None = None,
    ) -> None:
        self.gate = gate
        self.hook_seconds = hook_seconds
        self.connections: dict[str, ClientConnection] = {}
        self._contexts = contexts
        self._connections_at_most = connections_at_most
        self._head_seconds = head_seconds
        self._others = others
        self._hooks: dict[str, Hook] = {
            "client_disconnected": self._client_disconnected,
            "next_layer": self._next_layer,
            "http_connect": self._http_connect,
            "http_connected": self._http_connected,
            "tls_clienthello": self._tls_clienthello,
            "tls_start_client": self._tls_start_client,
            "tls_established_client": self._tls_established_client,
            "tls_failed_client": self._tls_failed_client,
            "tls_start_server": self._tls_start_server,
            "tls_established_server": self._tls_established_server,
            "server_connect": self._server_connect,
            "requestheaders": self._requestheaders,
            "egress_upstream_ready": self._upstream_ready,
            "egress_head_refused": self._head_refused,
            "responseheaders": self._responseheaders,
            "response": self._response,
            "error": self._error,
            "websocket_message": self._websocket_message,
            "websocket_end": self._websocket_end,
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
            await ours(connection, data)

    async def hook_failed(self, handler: ProxyConnectionHandler, name: str, data: Any) -> None:
        """A hook of any kind raised or hung: record a refusal where a request was at stake, and end the rest."""
        connection = self.connections.get(handler.client.id)
        if connection is None:
            return
        exchange = _exchange(data) if isinstance(data, http.HTTPFlow) else None
        if exchange is not None:
            connection.book.drop(exchange.id)
            self._finish(connection, exchange, Reason.INTERNAL_ERROR.value)
        if name in ("requestheaders", "http_connect", "egress_head_refused", "tls_clienthello", "next_layer"):
            try:
                await self.gate.refuse_unread(connection.client, Reason.INTERNAL_ERROR, "")
                connection.recorded += 1
            except Exception:
                logger.exception("a refusal could not be recorded")
        if name not in ("requestheaders", "http_connect", "client_disconnected"):
            connection.finish(Reason.INTERNAL_ERROR.value)
            connection.close()

    # what the layers tell between hooks

    def in_tunnel(self, client: MitmClient) -> bool:
        """Whether an allowed CONNECT came before."""
        connection = self.connections.get(client.id)
        return connection is not None and connection.destination is not None

    def head_incomplete(self, client: MitmClient, *, started: bool) -> None:
        """Part of a head is here: the rest must follow in time."""
        connection = self.connections.get(client.id)
        if connection is not None and started:
            connection.expect(self._head_seconds, lambda: self._too_slow(connection))

    def head_complete(self, client: MitmClient) -> None:
        """A head is here."""
        connection = self.connections.get(client.id)
        if connection is not None:
            connection.met()

    def received(self, handler: ProxyConnectionHandler, source: Connection, size: int) -> None:
        """Bytes were read from a client or an upstream."""
        connection = self.connections.get(handler.client.id)
        if connection is not None:
            connection.count(source, size)

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
        return await self.gate.dial(connection.book, host, port, tls=server.tls)

    # 1. accepted

    async def _client_connected(self, handler: ProxyConnectionHandler, client: MitmClient) -> None:
        connection = ClientConnection(handler, Client(SANDBOX, peer_text(client)))
        if len(self.connections) >= self._connections_at_most:
            await self.gate.refuse_unread(connection.client, Reason.LIMIT_CONNECTIONS, "")
            return
        self.connections[client.id] = connection
        connection.expect(self._head_seconds, lambda: self._too_slow(connection))
        client.error = None

    async def _client_disconnected(self, connection: ClientConnection, client: MitmClient) -> None:
        self.connections.pop(client.id, None)
        connection.finish("client-closed")

    def _too_slow(self, connection: ClientConnection) -> None:
        task = asyncio.ensure_future(self.gate.refuse_unread(connection.client, Reason.LIMIT_TIME, "the head"))
        task.add_done_callback(lambda _: connection.close())

    # 2. CONNECT

    async def _next_layer(self, connection: ClientConnection, question: NextLayer) -> None:
        context = question.context
        data = question.data_client()
        outermost = len(context.layers) == 1
        if outermost:
            question.layer = layers.HttpLayer(context, HTTPMode.regular)
            return
        if not data:
            return
        destination = connection.destination
        if destination is None:
            raise LookupError("a layer is asked for before any destination is known")
        opened = bool(context.client.tls)
        if not opened and data[0] == _TLS_RECORD_HANDSHAKE and destination.https:
            server_tls = layers.ServerTLSLayer(context)
            server_tls.child_layer = layers.ClientTLSLayer(context)
            question.layer = server_tls
        elif not opened and destination.opaque and not _looks_like_http(data):
            await self._admit_tunnel(connection, destination, Protocol.TCP, None)
            if connection.tunnel is not None:
                connection.tunnel.bytes_up += len(data)
            question.layer = layers.TCPLayer(context, ignore=True)
        else:
            connection.foreign = not (opened or _looks_like_http(data))
            question.layer = layers.HttpLayer(context, HTTPMode.transparent)

    async def _http_connect(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        connection.met()
        head: RequestHead = getattr(flow.request, HEAD)
        named = parse_authority(head.target.authority or "", None)
        if isinstance(named, Refusal):
            return await self._refuse_connect(connection, flow, named.reason, named.detail)
        if head.host is not None and parse_authority(head.host, named[1]) != named:
            detail = "Host is not the CONNECT target"
            return await self._refuse_connect(connection, flow, Reason.NAME_MISMATCH, detail, *named)
        if connection.destination is not None:
            detail = "a CONNECT inside a tunnel"
            return await self._refuse_connect(connection, flow, Reason.REQUEST_MALFORMED, detail, *named)
        host, port = named
        judged = await self.gate.judge_connect(connection.client, host, port)
        if isinstance(judged, Denial):
            connection.recorded += 1
            flow.response = refusal(judged)
            return None
        connection.destination = judged
        # `data`, because the properties would also rewrite Host.
        flow.request.data.host, flow.request.data.port = host.text, port
        if judged.opaque and not (judged.https or judged.http):
            flow.metadata[RAW] = True
            denial = await self._admit_tunnel(connection, judged, Protocol.TCP, None)
            if denial is not None:
                flow.response = refusal(denial)
                return None
        flow.response = None
        return None

    async def _refuse_connect(
        self,
        connection: ClientConnection,
        flow: http.HTTPFlow,
        reason: Reason,
        detail: str,
        host: Host | None = None,
        port: int = 0,
    ) -> None:
        request = Request(connection.client.sandbox, Protocol.HTTPS, host or Host(""), port)
        denial = await self.gate.refuse(connection.client, request, reason, detail)
        connection.recorded += 1
        flow.response = refusal(denial)

    async def _http_connected(self, connection: ClientConnection, _flow: http.HTTPFlow) -> None:
        if connection.tunnel is None:
            connection.expect(self._head_seconds, lambda: self._too_slow(connection))

    async def _admit_tunnel(
        self, connection: ClientConnection, destination: Destination, protocol: Protocol, sni: str | None
    ) -> Denial | None:
        """Admit what passes unopened; without its grant the layer that carries it cannot open a connection."""
        request = Request(connection.client.sandbox, protocol, destination.host, destination.port)
        outcome = await self.gate.admit(
            connection.client, request, book=connection.book, cut=lambda _: connection.close(), sni=sni
        )
        connection.recorded += 1
        if isinstance(outcome, Denial):
            return outcome
        connection.met()
        connection.tunnel = outcome
        return None

    # 3. TLS

    async def _tls_clienthello(self, connection: ClientConnection, data: ClientHelloData) -> None:
        destination = connection.destination
        if destination is None:
            raise LookupError("a TLS hello before any destination is known")
        problem = _hello_problem(data, destination)
        if problem is not None:
            await self._refuse_hello(connection, destination, *problem, sni=data.client_hello.sni)
        elif destination.tls is TlsMode.TUNNEL:
            # Admitted or not: without a grant the tunnel's layer opens nothing and closes.
            await self._admit_tunnel(connection, destination, Protocol.HTTPS, destination.host.text)
            if connection.tunnel is not None:
                connection.tunnel.bytes_up += len(data.client_hello.raw_bytes())
            data.ignore_connection = True
        else:
            connection.hello_checked = True

    async def _refuse_hello(
        self, connection: ClientConnection, destination: Destination, reason: Reason, detail: str, *, sni: str | None
    ) -> None:
        request = Request(connection.client.sandbox, Protocol.HTTPS, destination.host, destination.port)
        await self.gate.refuse(connection.client, request, reason, detail, sni=sni)
        connection.recorded += 1

    async def _tls_start_client(self, connection: ClientConnection, data: TlsData) -> None:
        if not connection.hello_checked or connection.destination is None:
            data.ssl_conn = None
            return
        data.ssl_conn = self._contexts.towards_client(connection.destination.host.text)

    async def _tls_established_client(self, connection: ClientConnection, _data: TlsData) -> None:
        connection.met()

    async def _tls_failed_client(self, connection: ClientConnection, _data: TlsData) -> None:
        destination = connection.destination
        if connection.recorded or destination is None:
            return
        detail = "the client ended the TLS handshake"
        await self._refuse_hello(connection, destination, Reason.CLIENT_TLS, detail, sni=destination.host.text)

    async def _tls_start_server(self, connection: ClientConnection, data: TlsData) -> None:
        server = data.conn
        if not isinstance(server, Server) or server.address is None:
            data.ssl_conn = None
            return
        # INVARIANT one-name: the name that was judged is the one sent and verified, whatever the client's hello said.
        server.sni = server.address[0]
        # Never a newer version than the client speaks: its connection could not carry the answer as it came.
        spoken = data.context.client.alpn
        offers = (b"h2", b"http/1.1") if spoken == b"h2" else (b"http/1.1",) if spoken else ()
        server.alpn_offers = list(offers)
        data.ssl_conn = self._contexts.towards_upstream(server.sni, offers)

    async def _tls_established_server(self, connection: ClientConnection, data: TlsData) -> None:
        if data.ssl_conn is not None and self._contexts.is_verifying(data.ssl_conn):
            connection.verified.add(data.conn.id)

    async def _server_connect(self, connection: ClientConnection, data: ServerConnectionHookData) -> None:
        if len(connection.book):
            data.server.error = None

    # 4. requests

    async def _requestheaders(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        connection.met()
        flow.request.stream = True
        head = getattr(flow.request, HEAD, None)
        if head is None:
            head = head_of(flow.request)
        named = self._name(connection, flow, head)
        if isinstance(named, Refusal):
            request = _unnamed(connection, head)
            denial = await self.gate.refuse(connection.client, request, named.reason, named.detail)
            return self._refuse(connection, flow, head, denial)
        outcome = await self.gate.admit(
            connection.client,
            named,
            book=connection.book,
            cut=lambda _: connection.close(),
            sni=connection.destination.host.text if connection.destination and connection.hello_checked else None,
            peer=_open_peer(connection, named),
        )
        if isinstance(outcome, Denial):
            return self._refuse(connection, flow, head, outcome)
        connection.recorded += 1
        connection.exchanges[outcome.id] = outcome
        flow.metadata[EXCHANGE] = outcome
        flow.metadata[NAMED] = _named(flow)
        flow.request.data.host, flow.request.data.port = named.host.text, named.port
        flow.request.path = _origin(named)
        flow.request.scheme = "https" if named.protocol in (Protocol.HTTPS, Protocol.WSS) else "http"
        flow.request.stream = _counting_up(outcome)
        flow.response = None
        return None

    def _name(self, connection: ClientConnection, flow: http.HTTPFlow, head: RequestHead | Reject) -> Request | Refusal:
        if isinstance(head, Reject):
            reason = Reason.LIMIT_HEAD if head.kind is RejectKind.TOO_LARGE else Reason.REQUEST_MALFORMED
            return Refusal(reason, head.detail)
        if flow.metadata.get(INVALID):
            return Refusal(Reason.REQUEST_MALFORMED, "the request's head breaks the rules of HTTP")
        destination = connection.destination
        if destination is None:
            return name_request(head, connection.client.sandbox, None)
        tls = connection.hello_checked
        if bool(flow.client_conn.tls_established) != tls:
            return Refusal(Reason.NAME_MISMATCH, "the TLS handshake was not checked")
        return name_request(head, connection.client.sandbox, Route(destination.host, destination.port, tls))

    def _refuse(
        self, connection: ClientConnection, flow: http.HTTPFlow, head: RequestHead | Reject, denial: Denial
    ) -> None:
        connection.recorded += 1
        flow.request.headers.pop("expect", None)
        flow.response = refusal(denial)
        if flow.request.method == "HEAD":
            flow.response.raw_content = b""
        if flow.request.is_http2:
            return
        if isinstance(head, Reject) or not isinstance(head.framing, NoBody):
            flow.response.headers["Connection"] = "close"
            connection.expect(_LINGER_SECONDS, connection.close)

    async def _upstream_ready(self, connection: ClientConnection, use: UpstreamUse) -> None:
        flow, server = use.flow, use.server
        exchange = _exchange(flow)
        if exchange is None or exchange.finished or server.peername is None:
            return
        connection.book.drop(exchange.id)
        request = exchange.request
        unchanged = (flow.request.method, flow.request.path, _named(flow)) == (
            request.method,
            _origin(request),
            flow.metadata[NAMED],
        )
        if server.address != (request.host.text, request.port) or not unchanged:
            use.refusal = "the request changed after it was judged"
            return
        problem = self.gate.ready(
            exchange, ip_address(server.peername[0]), verified_tls=server.id in connection.verified
        )
        if problem:
            use.refusal = problem
            return
        fields = self._outbound(flow, exchange)
        if flow.request.is_http2 and server.alpn != b"h2" and flow.metadata.get(BODY) and not _sized(fields):
            # mitmproxy would send the body after a head that announces none: a second request to the server.
            fields.append((b"Transfer-Encoding", b"chunked"))
        flow.request.headers = http.Headers(fields)
        use.refusal = ""

    def _outbound(self, flow: http.HTTPFlow, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        """The fields that the upstream gets; from here on they may hold secrets."""
        upgrade = exchange.request.protocol in (Protocol.WS, Protocol.WSS)
        protected = [name for name, _ in exchange.rendered.headers] + list(exchange.decision.remove)
        fields = strip_hop_by_hop(list(flow.request.headers.fields), upgrade=upgrade, protected=protected)
        return apply_headers(fields, exchange.decision.remove, exchange.rendered)

    async def _head_refused(self, connection: ClientConnection, refused: RefusedHead) -> None:
        connection.met()
        reason = refused.reason
        if connection.foreign and reason is Reason.REQUEST_MALFORMED:
            reason = Reason.PROTOCOL_UNKNOWN
        denial = await self.gate.refuse(connection.client, _unnamed(connection, None), reason, refused.detail)
        connection.recorded += 1
        refused.answer = denial.http1()

    # 6. responses

    async def _responseheaders(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        exchange = _exchange(flow)
        response = flow.response
        if exchange is None or response is None:
            return
        exchange.response_started(response.status_code)
        switching = response.status_code == _SWITCHING_PROTOCOLS
        if switching and exchange.request.protocol not in (Protocol.WS, Protocol.WSS):
            exchange.finish(Reason.UPSTREAM_MALFORMED.value)
            flow.kill()
            return
        fields = [(name, value) for name, value in response.headers.fields if name.lower() not in _NOT_FOR_CLIENTS]
        response.headers = http.Headers(fields)
        if not switching:
            response.stream = _counting_down(exchange)

    async def _response(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        exchange = _exchange(flow)
        if exchange is not None and flow.websocket is None:
            self._finish(connection, exchange)

    async def _error(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """The upstream failed, or the client went away. A page is made for a client that has seen no answer."""
        exchange = _exchange(flow)
        if exchange is None:
            return
        connection.book.drop(exchange.id)
        reason, detail = _failure(flow, exchange)
        if flow.response is None and reason is not None:
            denial = Denial(
                exchange.id,
                reason,
                detail,
                exchange.decision.verdict,
                exchange.decision.rule,
                exchange.request.host.text,
                exchange.request.port,
            )
            flow.response = refusal(denial)
            flow.response.headers["Connection"] = "close"
            exchange.response_started(denial.status)
        code = "client-closed" if reason is None else reason.value
        self._finish(connection, exchange, f"{code}: {detail}" if detail else code)

    async def _websocket_message(self, _connection: ClientConnection, flow: http.HTTPFlow) -> None:
        exchange = _exchange(flow)
        if flow.websocket is None or exchange is None:
            return
        for message in flow.websocket.messages:
            if message.from_client:
                exchange.bytes_up += len(message.content)
            else:
                exchange.bytes_down += len(message.content)
        flow.websocket.messages.clear()

    async def _websocket_end(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        exchange = _exchange(flow)
        if exchange is not None:
            self._finish(connection, exchange)

    def _finish(self, connection: ClientConnection, exchange: Exchange, error: str = "") -> None:
        connection.exchanges.pop(exchange.id, None)
        exchange.finish(error)


def _exchange(flow: http.HTTPFlow) -> Exchange | None:
    found = flow.metadata.get(EXCHANGE)
    return found if isinstance(found, Exchange) else None


def _origin(request: Request) -> str:
    """The target in origin-form."""
    path = request.path or "/"
    return path if request.query is None else f"{path}?{request.query}"


def _named(flow: http.HTTPFlow) -> tuple[str, tuple[str, ...]]:
    """What on a flow names its destination besides the address that it will be sent to."""
    return flow.request.authority, tuple(flow.request.headers.get_all("host"))


def _sized(fields: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)


def _counting_up(exchange: Exchange) -> Callable[[bytes], bytes]:
    """The place in the body's path towards the upstream: every chunk passes here once."""

    def pass_on(chunk: bytes) -> bytes:
        exchange.bytes_up += len(chunk)
        return chunk

    return pass_on


def _counting_down(exchange: Exchange) -> Callable[[bytes], bytes]:
    """The place in the body's path towards the client."""

    def pass_on(chunk: bytes) -> bytes:
        exchange.bytes_down += len(chunk)
        return chunk

    return pass_on


def _looks_like_http(data: bytes) -> bool:
    return data[:1].isalpha() and data[:1].isupper()


def _hello_problem(data: ClientHelloData, destination: Destination) -> tuple[Reason, str] | None:
    """What keeps a ClientHello from being one for this destination, read strictly from its bytes."""
    hello = parse_client_hello(data.client_hello.raw_bytes(wrap_in_record=True))
    if not isinstance(hello, ClientHello):
        return Reason.REQUEST_MALFORMED, "the TLS hello cannot be read in one way"
    if hello.sni is None:
        return None if destination.host.address is not None else (Reason.SNI_MISSING, "")
    named = parse_authority(hello.sni, destination.port)
    if isinstance(named, Refusal) or named[0] != destination.host:  # INVARIANT one-name
        return Reason.NAME_MISMATCH, "SNI is not the CONNECT target"
    return None


def _open_peer(connection: ClientConnection, request: Request) -> Address | None:
    """The address of an open connection that mitmproxy would use again for this request."""
    secure = request.protocol in (Protocol.HTTPS, Protocol.WSS)
    for server in connection.handler.transports:
        if (
            isinstance(server, Server)
            and server.address == (request.host.text, request.port)
            and server.connected
            and server.tls is secure
            and server.peername is not None
            and (server.alpn == b"h2" or connection.handler.client.alpn != b"h2")
        ):
            return ip_address(server.peername[0])
    return None


def _unnamed(connection: ClientConnection, head: RequestHead | Reject | None) -> Request:
    """As much of a request as is known, for the record of its refusal."""
    destination = connection.destination
    host, port = (Host(""), 0) if destination is None else (destination.host, destination.port)
    protocol = Protocol.HTTPS if connection.hello_checked else Protocol.HTTP
    if not isinstance(head, RequestHead):
        return Request(connection.client.sandbox, protocol, host, port)
    if destination is None:
        named = parse_authority(head.target.authority or "", 80)
        if not isinstance(named, Refusal):
            host, port = named
    return Request(connection.client.sandbox, protocol, host, port, head.method, head.target.path, head.target.query)


def _failure(flow: http.HTTPFlow, exchange: Exchange) -> tuple[Reason | None, str]:
    """What went wrong with an admitted request, in our own words; no reason means that the client went away."""
    match flow.metadata.get(FAILURE):
        case Failure.CLIENT:
            return None, ""
        case Failure.MALFORMED:
            return Reason.UPSTREAM_MALFORMED, ""
        case Failure.CLOSED:
            return Reason.UPSTREAM_UNREACHABLE, "the server closed the connection"
        case Failure.CONNECT:
            message = flow.error.msg if flow.error is not None else ""
            if message.startswith("Certificate verify failed"):
                return Reason.UPSTREAM_TLS, message
            if exchange.request.protocol in (Protocol.HTTPS, Protocol.WSS) and "SSL" in message:
                return Reason.UPSTREAM_TLS, "the TLS handshake with the server failed"
            return Reason.UPSTREAM_UNREACHABLE, "" if "SSL" in message else message
        case _:
            return Reason.UPSTREAM_UNREACHABLE, ""

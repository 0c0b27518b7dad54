"""The hooks of a request: judged anew each time, then carried (`answers` has those of what comes back).

1. requestheaders   the request (`Gate.admit_head`); a refused one is answered at once
2. request          the request again where a rule asked for its body, which is whole now (`awaited_hooks`)
3. upstream_ready   the connection that will carry it (`Gate.ready`), then header changes, secrets last
4. body_part        what of a body may pass, either way, where it is looked at or limited
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mitmproxy import http
from mitmproxy.connection import Server

from egress.gate.body import count_up, is_misdirected
from egress.gate.denial import Denial, failure
from egress.gate.gate import Asked
from egress.gate.judged_body import BodyWanted, unread_bytes
from egress.gate.naming import Route, name_request, unnamed
from egress.gate.outbound import WEBSOCKET, authority_of, origin_of, upstream_head
from egress.gate.permit import is_secure
from egress.mitm.answers import LINGER_SECONDS, counting, exchange_of, finish
from egress.mitm.arming import refusal
from egress.mitm.awaited_hooks import AwaitedHooks, forget_expectation, head_of_flow
from egress.mitm.stream import BODY, EXCHANGE, INVALID, LIMITED, LOOKED_AT
from egress.policy import Reason, Refusal, Request
from egress.wire.head import NoBody, Reject, RejectKind, RequestHead

if TYPE_CHECKING:
    from egress.gate.body import Buffer
    from egress.gate.exchange import Exchange
    from egress.gate.gate import Gate
    from egress.mitm.connection import ClientConnection
    from egress.mitm.hooks_of_ours import BodyPart, RefusedHead, UpstreamUse
    from egress.policy import Address

NAMED = "egress.named"

# Fields of a connection, which HTTP/2 has none of (RFC 9113, section 8.2.2).
_NOT_IN_HTTP2 = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class ExchangeHooks:
    """Asks the gate about each request, and does to it what the decision says."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.bodies = AwaitedHooks(gate, self._admit_judged, self._admitted, self._refuse, self._over)

    async def requestheaders(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """A request's head is here: admit it, or answer it with its refusal."""
        connection.met()
        flow.request.stream = True
        head = head_of_flow(flow)
        named = self._name(connection, flow, head)
        if isinstance(named, Refusal):
            request = _unnamed(connection, head)
            denial = await self._gate.refuse(connection.client, request, named.reason, named.detail)
            return self._refuse(connection, flow, head, denial)
        sni = connection.destination.host.text if connection.destination and connection.hello_checked else None
        peer = _open_peer(connection, named)
        outcome = await self._gate.admit_head(
            Asked(connection.client, named, connection.book, lambda _: connection.close(), sni, peer, reads_body=True)
        )
        if isinstance(outcome, BodyWanted):
            judged = self.bodies.judged_unread(flow, head, named)
            if judged is None:
                return self.bodies.begin(connection, flow, named, sni)
            body = None
            if not isinstance(head, Reject) and not flow.request.is_http2:
                body = unread_bytes(head.framing)
            outcome = await self._admit_judged(connection, judged, sni, body)
        if isinstance(outcome, Denial):
            return self._refuse(connection, flow, head, outcome)
        if self._admitted(connection, flow, outcome):
            flow.request.stream = counting(outcome, count_up, outcome.upward.end)
            forget_expectation(flow, head)
            flow.response = None
        return None

    async def _admit_judged(
        self, connection: ClientConnection, judged: Request, sni: str | None, body: Buffer | None
    ) -> Exchange | Denial:
        """Ask the gate again, now that all is known of the request's body that ever will be."""
        peer = _open_peer(connection, judged)
        return await self._gate.admit(
            Asked(connection.client, judged, connection.book, lambda _: connection.close(), sni, peer, body=body)
        )

    def _admitted(self, connection: ClientConnection, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        """The gate said yes: the flow is the exchange's from here on, unless its client has left."""
        connection.recorded += 1
        if connection.closed:
            # The client left while it was being judged: nobody would end the exchange later.
            exchange.finish("client-closed")
            return False
        connection.exchanges[exchange.id] = exchange
        flow.metadata[EXCHANGE] = exchange
        _address_to(flow, exchange)
        if exchange.quota is not None:
            self._limit(connection, flow, exchange)
        if exchange.look is not None:
            flow.metadata[LOOKED_AT] = True
        return True

    def _limit(self, connection: ClientConnection, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Have its bytes taken of its rules' limits: those of a WebSocket, whose frames no hook sees, when read."""
        if exchange.request.protocol in WEBSOCKET:
            connection.limited = exchange
        else:
            flow.metadata[LIMITED] = True

    def _over(
        self, connection: ClientConnection, flow: http.HTTPFlow, head: RequestHead | Reject, exchange: Exchange
    ) -> None:
        """A held body is more than the limits of its rules let pass: nothing of the request has left, or will."""
        del flow.metadata[EXCHANGE]
        connection.book.drop(exchange.id)
        denial = failure(exchange, Reason.LIMIT_BYTES, "")
        exchange.response_started(denial.status)
        finish(connection, exchange, Reason.LIMIT_BYTES.value)
        self._refuse(connection, flow, head, denial, whole=True)

    def _name(self, connection: ClientConnection, flow: http.HTTPFlow, head: RequestHead | Reject) -> Request | Refusal:
        if isinstance(head, Reject):
            reason = Reason.LIMIT_HEAD if head.kind is RejectKind.TOO_LARGE else Reason.REQUEST_MALFORMED
            return Refusal(reason, head.detail)
        if flow.metadata.get(INVALID):
            return Refusal(Reason.REQUEST_MALFORMED, "the request's head breaks the rules of HTTP")
        destination = connection.destination
        if destination is None:
            stranger = connection.identify(self._gate, head)
            if stranger is not None:
                return stranger
            return name_request(head, connection.client.sandbox, None)
        http2 = flow.request.is_http2
        tls = connection.hello_checked
        if bool(flow.client_conn.tls_established) != tls:
            return Refusal(Reason.NAME_MISMATCH, "the TLS handshake was not checked")
        return name_request(
            head, connection.client.sandbox, Route(destination.host, destination.port, tls), http2=http2
        )

    def _refuse(
        self,
        connection: ClientConnection,
        flow: http.HTTPFlow,
        head: RequestHead | Reject,
        denial: Denial,
        whole: bool = False,  # noqa: FBT001, FBT002 - a callback of two
    ) -> None:
        """Answer with a refusal. `whole`: nothing of the request is left on the connection."""
        connection.recorded += 1
        flow.request.headers.pop("expect", None)
        flow.response = refusal(denial)
        if flow.request.method == "HEAD":
            flow.response.raw_content = b""
        if flow.request.is_http2:
            return
        if not whole and (isinstance(head, Reject) or not isinstance(head.framing, NoBody)):
            flow.response.headers["Connection"] = "close"
            connection.expect(LINGER_SECONDS, connection.close)

    async def upstream_ready(self, connection: ClientConnection, use: UpstreamUse) -> None:
        """A connection is open for the request: judge it, then put on what the rule injects."""
        flow, server = use.flow, use.server
        exchange = exchange_of(flow)
        if exchange is None or exchange.finished or server.peername is None:
            return
        connection.book.drop(exchange.id)
        request = exchange.request
        unchanged = (flow.request.method, flow.request.path, _named(flow)) == (
            request.method,
            origin_of(request),
            flow.metadata[NAMED],
        )
        if server.address != (request.host.text, request.port) or not unchanged:
            use.refusal = "the request changed after it was judged"
            return
        problem = self._gate.ready(
            exchange, _address(server.peername[0]), verified_tls=server.id in connection.verified
        )
        if problem:
            use.refusal = problem
            return
        flow.request.path, fields = self._outbound(flow, exchange)
        if server.alpn == b"h2":
            fields = [field for field in fields if field[0].lower() not in _NOT_IN_HTTP2]
        elif flow.request.is_http2 and flow.metadata.get(BODY) and not _sized(fields):
            # mitmproxy would send the body after a head that announces none: a second request to the server.
            fields.append((b"Transfer-Encoding", b"chunked"))
        flow.request.headers = http.Headers(fields)
        use.refusal = ""

    def _outbound(self, flow: http.HTTPFlow, exchange: Exchange) -> tuple[str, list[tuple[bytes, bytes]]]:
        """The target and the fields that the upstream gets; from here on they may hold secrets."""
        fields = list(flow.request.headers.fields)
        return upstream_head(exchange, fields, host=not flow.request.is_http2, via=self._gate.via)

    async def body_part(self, _connection: ClientConnection, part: BodyPart) -> None:
        """Part of a body is about to go on: look at it, and take it of its rules' limits."""
        exchange = exchange_of(part.flow)
        if exchange is None:
            return
        if part.from_client and exchange.look is not None:
            if is_misdirected(exchange, part.data):
                part.misdirected = True
                return
            if exchange.look is None:
                part.flow.metadata.pop(LOOKED_AT, None)
        share = None
        if exchange.quota is not None:
            share = exchange.quota.up if part.from_client else exchange.quota.down
        part.may_pass = part.size if share is None else await share.take(part.size)

    async def head_refused(self, connection: ClientConnection, refused: RefusedHead) -> None:
        """A client sent what is no request: record it and say so."""
        connection.met()
        reason = refused.reason
        if connection.foreign and reason is Reason.REQUEST_MALFORMED:
            reason = Reason.PROTOCOL_UNKNOWN
        denial = await self._gate.refuse(connection.client, _unnamed(connection, None), reason, refused.detail)
        connection.recorded += 1
        refused.answer = denial.http1()


def _address_to(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Have the flow go where the request was judged to go."""
    request = exchange.request
    signed = exchange.rendered.signature is not None
    if (signed or exchange.asked is not None) and flow.request.is_http2:
        # HTTP/1.1 gets its Host from `upstream_fields`. What is signed is the name as we write it.
        flow.request.headers.pop("host", None)
        flow.request.data.authority = authority_of(request)
    flow.metadata[NAMED] = _named(flow)
    # `data`, because the properties would also rewrite Host.
    flow.request.data.host, flow.request.data.port = request.host.text, request.port
    flow.request.path = origin_of(request)
    flow.request.scheme = "https" if is_secure(request) else "http"


def _named(flow: http.HTTPFlow) -> tuple[str, tuple[str, ...]]:
    """What on a flow names its destination besides the address that it will be sent to."""
    return flow.request.authority, tuple(flow.request.headers.get_all("host"))


def _sized(fields: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)


# Peers are few, and asked for at each request.
_address = lru_cache(maxsize=1024)(ip_address)


def _open_peer(connection: ClientConnection, request: Request) -> Address | None:
    """The address of an open connection that mitmproxy would use again for this request."""
    secure = is_secure(request)
    for server in connection.handler.transports:
        if (
            isinstance(server, Server)
            and server.address == (request.host.text, request.port)
            and server.connected
            and server.tls is secure
            and server.peername is not None
            and (server.alpn == b"h2" or connection.handler.client.alpn != b"h2")
        ):
            return _address(server.peername[0])
    return None


def _unnamed(connection: ClientConnection, head: RequestHead | Reject | None) -> Request:
    """As much of a request as is known, for the record of its refusal."""
    destination = connection.destination
    route = None if destination is None else Route(destination.host, destination.port, connection.hello_checked)
    return unnamed(connection.client.sandbox, head if isinstance(head, RequestHead) else None, route)

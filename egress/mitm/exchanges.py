"""The hooks of one HTTP exchange: judged anew for each request, carried, answered, recorded once.

1. requestheaders   the request (`Gate.admit_head`); a refused one is answered at once
2. request          the request again where a rule asked for its body, which is whole now (`awaited_hooks`)
3. upstream_ready   the connection that will carry it (`Gate.ready`), then header changes, secrets last
4. responseheaders  what the upstream may not say is taken out; bodies are counted as they stream
5. response, error, websocket_end  the outcome
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mitmproxy import http
from mitmproxy.connection import Server

from egress.gate.body import count_down, count_up, is_misdirected, misdirection
from egress.gate.denial import Denial, failure
from egress.gate.exchange import Exchange
from egress.gate.gate import Asked
from egress.gate.judged_body import BodyWanted, unread_bytes
from egress.gate.naming import Route, name_request, unnamed
from egress.gate.outbound import VIA, WEBSOCKET, authority_of, client_fields, origin_of, upstream_head
from egress.gate.permit import is_secure
from egress.gate.reflection import Answer
from egress.mitm.awaited_hooks import AwaitedHooks, forget_expectation, head_of_flow
from egress.mitm.handler import refusal
from egress.mitm.http1 import HEAD
from egress.mitm.stream import ANSWER, BODY, EXCHANGE, FAILURE, INVALID, LIMITED, LOOKED_AT, UNREADABLE, Failure
from egress.policy import Reason, Refusal, Request
from egress.wire.head import NoBody, Reject, RejectKind, RequestHead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.gate.body import Buffer
    from egress.gate.gate import Gate
    from egress.mitm.connection import ClientConnection
    from egress.mitm.hooks_of_ours import BodyPart, RefusedHead, UpstreamUse
    from egress.policy import Address

NAMED = "egress.named"

# A refused request's body is thrown away for this long, so that the client reads the refusal, before the cut.
_LINGER_SECONDS = 5.0
_SWITCHING_PROTOCOLS = 101
_VERIFY_FAILED = "Certificate verify failed"
_NOT_OUR_TLS = "The remote server "

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
            flow.request.stream = _counting_up(outcome)
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
            connection.expect(_LINGER_SECONDS, connection.close)

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

    # 6. responses

    async def responseheaders(self, _connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """The answer's head is here: clean it, count its body."""
        exchange = exchange_of(flow)
        response = flow.response
        if exchange is None or response is None:
            return
        exchange.response_started(response.status_code)
        switching = response.status_code == _SWITCHING_PROTOCOLS
        if switching and not (exchange.request.protocol in WEBSOCKET and _opens_websocket(response)):
            exchange.finish(Reason.UPSTREAM_MALFORMED.value)
            flow.kill()
            return
        last = "close" in _options(response)
        answer = flow.metadata.get(ANSWER)
        if isinstance(answer, Answer):
            last = _clean(flow, response, answer, exchange) or last
        response.headers = _for_client(response.headers, switching=switching)
        if self._gate.via:
            response.headers.fields = (*response.headers.fields, VIA)
        head = getattr(flow.request, HEAD, None)
        if last or (head is not None and not head.keep_alive):
            # mitmproxy looks here for which connections to close, and what the two ends said of theirs stayed behind.
            response.headers["Connection"] = "close"
        if not switching:
            response.stream = _counting_down(exchange)

    async def response(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """The answer is complete."""
        exchange = exchange_of(flow)
        if exchange is None:
            return
        if flow.response is not None and flow.response.trailers is not None:
            answer, trailers = flow.metadata.get(ANSWER), flow.response.trailers
            if isinstance(answer, Answer):
                trailers = http.Headers(answer.fields(trailers.fields))
            flow.response.trailers = _for_client(trailers)
        if ANSWER in flow.metadata and flow.request.timestamp_end is None and not flow.request.is_http2:
            # What of the request is not on its way never goes (`GuardedStream.end_early`).
            connection.expect(_LINGER_SECONDS, connection.close)
        if flow.websocket is None:
            finish(connection, exchange)

    async def error(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """The upstream failed, or the client went away. A page is made for a client that has seen no answer."""
        exchange = exchange_of(flow)
        if exchange is None:
            self.bodies.never_whole(connection, flow)
            return
        connection.book.drop(exchange.id)
        reason, detail = _failure(flow, exchange)
        if flow.response is None and reason is not None:
            denial = failure(exchange, reason, detail)
            flow.response = refusal(denial)
            flow.response.headers["Connection"] = "close"
            exchange.response_started(denial.status)
        if reason in (Reason.LIMIT_BYTES, Reason.PLACEHOLDER_MISDIRECTED) and not flow.request.is_http2:
            # What the client still sends is thrown away, so that it reads why, but not for ever.
            connection.expect(_LINGER_SECONDS, connection.close)
        code = "client-closed" if reason is None else reason.value
        finish(connection, exchange, f"{code}: {detail}" if detail else code)

    async def websocket_message(self, _connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """Count the messages, and keep none."""
        exchange = exchange_of(flow)
        if flow.websocket is None or exchange is None:
            return
        answer = flow.metadata.get(ANSWER)
        for message in flow.websocket.messages:
            if isinstance(answer, Answer) and not message.from_client:
                message.content = answer.text(message.content)
            if message.from_client:
                exchange.bytes_up += len(message.content)
            else:
                exchange.bytes_down += len(message.content)
        flow.websocket.messages.clear()

    async def websocket_end(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """The WebSocket is closed."""
        exchange = exchange_of(flow)
        if exchange is not None:
            finish(connection, exchange)


def finish(connection: ClientConnection, exchange: Exchange, error: str = "") -> None:
    """Record the outcome of an exchange that is no longer under way."""
    connection.exchanges.pop(exchange.id, None)
    if connection.limited is exchange:
        connection.limited = None
    exchange.finish(error)


def exchange_of(flow: http.HTTPFlow) -> Exchange | None:
    """The admitted request that a flow carries, if there is one."""
    found = flow.metadata.get(EXCHANGE)
    return found if isinstance(found, Exchange) else None


def _clean(flow: http.HTTPFlow, response: http.Response, answer: Answer, exchange: Exchange) -> bool:
    """Take secrets out of a head, and frame its body anew; whether the connection must end with that body."""
    response.headers = http.Headers(answer.fields(response.headers.fields))
    response.data.reason = answer.text(response.data.reason)
    if not exchange.downward.steps:
        return False
    for name in ("content-length", "transfer-encoding"):
        response.headers.pop(name, None)
    if flow.request.is_http2:
        return False
    if flow.request.http_version == "HTTP/1.0":
        return True
    response.headers["Transfer-Encoding"] = "chunked"
    return False


def _for_client(headers: http.Headers, *, switching: bool = False) -> http.Headers:
    return http.Headers(client_fields(list(headers.fields), switching=switching))


def _opens_websocket(response: http.Response) -> bool:
    """Whether a 101 agrees to what was asked for (RFC 6455, section 4.2.2)."""
    return response.headers.get("upgrade", "").lower() == "websocket" and "upgrade" in _options(response)


def _options(response: http.Response) -> list[str]:
    """The members of Connection, in lower case."""
    return [option.strip().lower() for option in response.headers.get("connection", "").split(",")]


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


def _counting_up(exchange: Exchange) -> Callable[[bytes], Sequence[bytes]]:
    """The place in the body's path towards the upstream: every chunk passes here once.

    An empty one goes no further: chunked, it would end the body, and what follows it would be another request.
    """

    def pass_on(chunk: bytes) -> Sequence[bytes]:
        passed = bytes(count_up(exchange, chunk)) if chunk else bytes(exchange.upward.end())
        return (passed,) if passed else ()

    return pass_on


def _counting_down(exchange: Exchange) -> Callable[[bytes], Sequence[bytes]]:
    """The place in the body's path towards the client; as above."""

    def pass_on(chunk: bytes) -> Sequence[bytes]:
        passed = bytes(count_down(exchange, chunk)) if chunk else bytes(exchange.downward.end())
        return (passed,) if passed else ()

    return pass_on


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


def _failure(flow: http.HTTPFlow, exchange: Exchange) -> tuple[Reason | None, str]:  # noqa: PLR0911 -- one a failure
    """What went wrong with an admitted request, in our own words; no reason means that the client went away."""
    match flow.metadata.get(FAILURE):
        case Failure.CLIENT:
            return None, ""
        case Failure.REQUEST:
            return Reason.REQUEST_MALFORMED, "the body breaks the rules of HTTP, or fields follow it"
        case Failure.LIMIT:
            return Reason.LIMIT_BYTES, ""
        case Failure.PLACEHOLDER:
            refusal = misdirection(exchange)
            return refusal.reason, refusal.detail
        case Failure.MALFORMED:
            return Reason.UPSTREAM_MALFORMED, ""
        case Failure.UNREADABLE:
            return Reason.RESPONSE_UNREADABLE, str(flow.metadata.get(UNREADABLE, ""))
        case Failure.CLOSED:
            return Reason.UPSTREAM_UNREACHABLE, "the server closed the connection"
        case Failure.CONNECT:
            return _connect_failure("" if flow.error is None else flow.error.msg, exchange)
        case _:
            return Reason.UPSTREAM_UNREACHABLE, ""


def _connect_failure(message: str, exchange: Exchange) -> tuple[Reason, str]:
    """Tell our own sentences, and OpenSSL's of a certificate, from mitmproxy's, which repeat bytes of the wire."""
    if message.startswith(_VERIFY_FAILED):
        return Reason.UPSTREAM_TLS, message
    if is_secure(exchange.request) and ("SSL" in message or message.startswith(_NOT_OUR_TLS)):
        return Reason.UPSTREAM_TLS, "the TLS handshake with the server failed"
    return Reason.UPSTREAM_UNREACHABLE, "" if "SSL" in message else message

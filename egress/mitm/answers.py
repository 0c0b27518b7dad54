"""The hooks of an answer, and of an exchange's end: cleaned, counted, recorded once.

1. responseheaders    what the upstream may not say is taken out; the body is counted as it streams
2. response, error    the outcome; a client that has seen no answer gets a page of ours
3. websocket_message, websocket_end  the same for a WebSocket, of which no message is kept
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy import http

from egress.gate.body import count_down
from egress.gate.denial import failure
from egress.gate.exchange import Exchange
from egress.gate.outbound import VIA, WEBSOCKET, client_fields
from egress.gate.reflection import Answer
from egress.mitm.arming import refusal
from egress.mitm.failures import failure_of
from egress.mitm.http1 import HEAD
from egress.mitm.stream import ANSWER, EXCHANGE
from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.gate.body import Buffer
    from egress.gate.gate import Gate
    from egress.mitm.awaited_hooks import AwaitedHooks
    from egress.mitm.connection import ClientConnection

# So long the client may go on sending what is thrown away, and read its answer, before the cut.
LINGER_SECONDS = 5.0

_SWITCHING_PROTOCOLS = 101


class AnswerHooks:
    """Does to each answer what the decision on its request says. `bodies`: those that are still awaited."""

    def __init__(self, gate: Gate, bodies: AwaitedHooks) -> None:
        self._gate = gate
        self._bodies = bodies

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
            response.stream = counting(exchange, count_down, exchange.downward.end)

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
            connection.expect(LINGER_SECONDS, connection.close)
        if flow.websocket is None:
            finish(connection, exchange)

    async def error(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """The upstream failed, or the client went away. A page is made for a client that has seen no answer."""
        exchange = exchange_of(flow)
        if exchange is None:
            self._bodies.never_whole(connection, flow)
            return
        connection.book.drop(exchange.id)
        reason, detail = failure_of(flow, exchange)
        if flow.response is None and reason is not None:
            denial = failure(exchange, reason, detail)
            flow.response = refusal(denial)
            flow.response.headers["Connection"] = "close"
            exchange.response_started(denial.status)
        if reason in (Reason.LIMIT_BYTES, Reason.PLACEHOLDER_MISDIRECTED) and not flow.request.is_http2:
            # What the client still sends is thrown away, so that it reads why, but not for ever.
            connection.expect(LINGER_SECONDS, connection.close)
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


def counting(
    exchange: Exchange, count: Callable[[Exchange, bytes], Buffer], end: Callable[[], Buffer]
) -> Callable[[bytes], Sequence[bytes]]:
    """The place in a body's path, either way: every chunk passes here once, and at its end what steps still held.

    An empty one goes no further: chunked, it would end the body, and what follows it would be another message.
    """

    def pass_on(chunk: bytes) -> Sequence[bytes]:
        passed = bytes(count(exchange, chunk) if chunk else end())
        return (passed,) if passed else ()

    return pass_on


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

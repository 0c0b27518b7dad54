"""One HTTP exchange in mitmproxy's layers, with the places where it would answer, forward or buffer on its own.

1. an invalid request goes to the lane's hook, which refuses and records it, not to an unrecorded error page
2. a refused request is answered at once and its body is thrown away as it comes, never held
3. a request is sent only after the connection that will carry it was judged
4. of a body that is limited, or looked at, only as many bytes pass as the lane's hook says
5. a body that a rule asks for is gathered within its limit, and judged before anything of the request is sent
6. an answer to a request that carried secrets is cleaned of them, or refused, before anything of it is sent
7. an upstream's failure becomes a page of ours, in which no byte of the upstream stands
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from mitmproxy import flow as flows
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import tcp
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp, validate_request
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpConnectHook, HttpErrorHook

from egress.gate.exchange import Exchange
from egress.gate.inflate import UnreadableError
from egress.gate.reflection import cleaned
from egress.mitm.attachment import attached
from egress.mitm.awaited import awaited_of
from egress.mitm.handler import go_inside
from egress.mitm.hooks_of_ours import (
    BodyPart,
    EgressBodyPartHook,
    EgressBodyRefusedHook,
    EgressUpstreamReadyHook,
    UpstreamUse,
)
from egress.mitm.http1 import BODY_HAS_NO_END
from egress.policy import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitmproxy import http
    from mitmproxy.proxy.layer import CommandGenerator

INVALID = "egress.invalid"
RAW = "egress.raw"
BODY = "egress.body"
BODY_PROBLEM = "egress.body_problem"
FAILURE = "egress.failure"
LIMITED = "egress.limited"
LOOKED_AT = "egress.looked-at"
EXCHANGE = "egress.exchange"
ANSWER = "egress.answer"
UNREADABLE = "egress.unreadable"


_FIRST_FINAL = 200
_BODILESS = frozenset({204, 304})

# What h11's reader of a length, and our own of chunks, say of a client that is gone before its body has ended.
_LEFT = ("peer closed connection", BODY_HAS_NO_END)


class Failure(StrEnum):
    """Whose fault it is that an exchange ended early."""

    CLIENT = "client"
    REQUEST = "request"
    LIMIT = "limit"
    PLACEHOLDER = "placeholder"
    CONNECT = "connect"
    CLOSED = "closed"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"


class GuardedStream(HttpStream):
    """mitmproxy's stream; see the module's list for what is different."""

    def check_invalid(self, request: bool) -> CommandGenerator[bool]:  # noqa: FBT001 - mitmproxy's signature
        """Leave an invalid request to the lane; end an invalid response."""
        if request:
            head = self.flow.request
            # HTTP/2 is spoken inside TLS only. mitmproxy overwrites what stands there, and a server may believe it.
            scheme_lies = head.is_http2 and head.scheme != "https"
            if scheme_lies or validate_request(self.mode, head, validate_inbound_headers=True):
                self.flow.metadata[INVALID] = True
            return False
        assert self.flow.response is not None  # noqa: S101 - mitmproxy calls this with a response
        try:
            validate_headers(self.flow.response)
        except ValueError:
            yield commands.CloseConnection(self.flow.server_conn)
            self.flow.response = None
            yield from self.handle_protocol_error(
                ResponseProtocolError(self.stream_id, "malformed response", ErrorCode.RESPONSE_VALIDATION_FAILED)
            )
            self.client_state = self.server_state = self.state_errored
            return True
        return (yield from self.check_reflection())

    def check_reflection(self) -> CommandGenerator[bool]:
        """Have an answer cleaned whose request carried secrets; True if it cannot be, and was refused."""
        exchange, response = self.flow.metadata.get(EXCHANGE), self.flow.response
        if not isinstance(exchange, Exchange) or response is None or not exchange.rendered.scrubbed:
            return False
        answer = cleaned(exchange, response.status_code, response.headers.fields, bodiless=_is_bodiless(self.flow))
        if not isinstance(answer, Refusal):
            self.flow.metadata[ANSWER] = answer
            return False
        self.flow.metadata[UNREADABLE] = answer.detail
        self.flow.response = None
        yield from self.unreadable("unreadable")
        self.client_state = self.server_state = self.state_errored
        return True

    def unreadable(self, why: str) -> CommandGenerator[None]:
        """End an answer that cannot be read: with a page if nothing of it was sent, else broken off."""
        self.flow.metadata[FAILURE] = Failure.UNREADABLE
        yield from self.break_off(why)
        yield from self.handle_protocol_error(
            ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR)
        )

    def handle_connect(self) -> CommandGenerator[None]:
        """Ask the lane, and go on only where it answered nothing; then the layers of this HTTP are done.

        Raw TCP is carried at once: its server may be the first to speak.
        """
        self.client_state = self.state_done
        yield HttpConnectHook(self.flow)
        if self.flow.response is None:
            self.context.server.address = (self.flow.request.host, self.flow.request.port)
            raw = self.flow.metadata.get(RAW, False)
            self.child_layer = tcp.TCPLayer(self.context, ignore=True) if raw else layer.NextLayer(self.context)
        yield from self.handle_connect_finish()
        lane = attached()
        handler = None if lane is None else lane.handler_of(self.context.client)
        if handler is not None and self.child_layer is not None:
            go_inside(handler, self.child_layer)

    def start_request_stream(self) -> CommandGenerator[None]:
        """Send the request's head, or the refusal without waiting for the body."""
        self.flow.metadata[BODY] = True
        if self.flow.response is not None:
            yield from self.answer_now()
        elif any(isinstance(event, RequestTrailers) for event in self._paused_event_queue):
            # They came while the head was being judged: then nothing need leave at all.
            yield from self.refuse_trailers()
        else:
            yield from super().start_request_stream()

    def state_stream_request_body(
        self, event: RequestData | RequestTrailers | RequestEndOfMessage
    ) -> CommandGenerator[None]:
        """Pass a body on; fields after it end the exchange, since no rule has seen them."""
        metadata = self.flow.metadata
        if isinstance(event, RequestData) and (LIMITED in metadata or LOOKED_AT in metadata):
            yield from self.limited(event, super().state_stream_request_body, from_client=True)
            return
        if not isinstance(event, RequestTrailers):
            yield from super().state_stream_request_body(event)
            return
        yield from self.break_off("trailers")
        yield from self.refuse_trailers()

    def state_stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """Pass a body on, as far as it can be read and its rule's limits let it."""
        if ANSWER not in self.flow.metadata:
            yield from self.stream_response_body(event)
            return
        try:
            yield from self.stream_response_body(event)
        except UnreadableError as error:
            self.flow.metadata[UNREADABLE] = f"the server sent a body that cannot be read: {error}"
            yield from self.unreadable("unreadable")
            return
        if isinstance(event, ResponseEndOfMessage) and self.client_state not in (self.state_done, self.state_errored):
            yield from self.end_early()

    def end_early(self) -> CommandGenerator[None]:
        """Tell the end of an answer that came before its request's: mitmproxy would wait, and no length tells it."""
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        yield from self.break_off("answered")
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    def stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """As above, for what can be read."""
        if isinstance(event, ResponseData) and LIMITED in self.flow.metadata:
            yield from self.limited(event, super().state_stream_response_body, from_client=False)
        else:
            yield from super().state_stream_response_body(event)

    def limited(
        self,
        event: RequestData | ResponseData,
        pass_on: Callable[[RequestData | ResponseData], CommandGenerator[None]],
        *,
        from_client: bool,
    ) -> CommandGenerator[None]:
        """Ask the lane how much may pass; where that is less than came, the exchange ends."""
        if not event.data:
            return
        part = BodyPart(self.flow, event.data, from_client)
        yield EgressBodyPartHook(part)
        event.data = event.data[: part.may_pass]
        if event.data:
            yield from pass_on(event)
        if part.may_pass < part.size:
            yield from self.break_off("over a limit")
            self.flow.metadata[FAILURE] = Failure.PLACEHOLDER if part.misdirected else Failure.LIMIT
            yield from self.handle_protocol_error(
                ResponseProtocolError(self.stream_id, "over a limit", ErrorCode.GENERIC_CLIENT_ERROR)
            )

    def break_off(self, why: str) -> CommandGenerator[None]:
        """The server must not take what it has of the request for whole."""
        yield SendHttp(RequestProtocolError(self.stream_id, why, ErrorCode.GENERIC_CLIENT_ERROR), self.context.server)

    def refuse_trailers(self) -> CommandGenerator[None]:
        """End the exchange as one whose request is malformed."""
        self.flow.metadata[FAILURE] = Failure.REQUEST
        yield from self.handle_protocol_error(
            ResponseProtocolError(self.stream_id, "trailers", ErrorCode.GENERIC_CLIENT_ERROR)
        )

    def check_body_size(self, request: bool) -> CommandGenerator[bool]:  # noqa: FBT001 - mitmproxy's signature
        """Refuse an awaited body as soon as it grows beyond what may be held of it; True if it did."""
        awaited = awaited_of(self.flow) if request else None
        if awaited is None:
            return (yield from super().check_body_size(request))
        problem = awaited.held.grow(len(self.request_body_buf))
        if problem is None:
            return False
        self.request_body_buf.clear()
        self.flow.metadata[BODY_PROBLEM] = problem
        yield EgressBodyRefusedHook(self.flow)
        yield from self.answer_now()
        return True

    def answer_now(self) -> CommandGenerator[None]:
        """Send `flow.response` and forget the stream: whatever else comes for it is thrown away."""
        response = self.flow.response
        assert response is not None  # noqa: S101 - both callers look
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        if response.raw_content and self.flow.request.method != "HEAD":
            yield SendHttp(ResponseData(self.stream_id, response.raw_content), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    def make_server_connection(self) -> CommandGenerator[bool]:
        """Get a connection, then ask the lane whether this request may go on it."""
        if not (yield from super().make_server_connection()):
            return False
        use = UpstreamUse(self.flow, self.context.server)
        yield EgressUpstreamReadyHook(use)
        if not use.refusal:
            return True
        if not any(stream is not self for stream in self._siblings()):
            yield commands.CloseConnection(self.context.server)
        yield from self.handle_protocol_error(
            ResponseProtocolError(self.stream_id, use.refusal, ErrorCode.CONNECT_FAILED)
        )
        return False

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """Turn an upstream's failure before its head into our own page; leave the rest to mitmproxy."""
        self.flow.metadata.setdefault(FAILURE, _failure(event))
        answerable = (
            isinstance(event, ResponseProtocolError)
            and self.flow.response is None
            and self.client_state != self.state_errored
        )
        if not answerable:
            yield from super().handle_protocol_error(event)
            return
        self.flow.error = flows.Error(event.message)
        yield HttpErrorHook(self.flow)
        if self.flow.response is None:
            yield from super().handle_protocol_error(event)
            return
        yield from self.answer_now()

    def _siblings(self) -> list[HttpStream]:
        parent = self.context.layers[self.context.layers.index(self) - 1]
        return list(getattr(parent, "streams", {}).values())


def _is_bodiless(flow: http.HTTPFlow) -> bool:
    """Whether no body follows an answer's head (RFC 9110, section 6.4.1)."""
    status = 0 if flow.response is None else flow.response.status_code
    return flow.request.method == "HEAD" or status in _BODILESS or status < _FIRST_FINAL


def _failure(event: RequestProtocolError | ResponseProtocolError) -> Failure:
    if isinstance(event, RequestProtocolError):
        left = "protocol error" not in event.message or any(word in event.message for word in _LEFT)
        return Failure.CLIENT if left else Failure.REQUEST
    match event.code:
        case ErrorCode.CONNECT_FAILED:
            return Failure.CONNECT
        case ErrorCode.RESPONSE_VALIDATION_FAILED:
            return Failure.MALFORMED
        case _ if "protocol error" in event.message:
            return Failure.MALFORMED
        case _:
            return Failure.CLOSED

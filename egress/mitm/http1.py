"""HTTP/1 heads for mitmproxy's layers, read by our own strict parser first.

mitmproxy forwards folded lines, bare line feeds, unknown versions and more than one Host, and keeps a head of any
size. What `egress.wire` refuses never becomes a flow: it is answered, recorded and closed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
from h11._readers import ChunkedReader
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestHeaders, ResponseHeaders, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server, make_body_reader

from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.mitm.guard import attached
from egress.mitm.hooks_of_ours import EgressHeadRefusedHook, RefusedHead
from egress.policy import Reason
from egress.wire.head import (
    NeedMore,
    Reject,
    RejectKind,
    RequestHead,
    TargetForm,
    parse_request_head,
    parse_response_head,
)

if TYPE_CHECKING:
    from h11._receivebuffer import ReceiveBuffer
    from mitmproxy import http
    from mitmproxy.proxy.layer import CommandGenerator

HEAD = "egress_head"

_NOT_FOR_A_PROXY = "this is a proxy: ask it for a whole URL, or for a tunnel with CONNECT"


def read_request(self: Http1Server, event: events.Event) -> CommandGenerator[None]:
    """In place of `Http1Server.read_headers`."""
    if isinstance(event, events.ConnectionClosed):
        yield commands.CloseConnection(self.conn)
        return
    lane = attached()
    if lane is None:
        yield commands.CloseConnection(self.conn)
        self.state = self.done
        return
    head = parse_request_head(_buffered(self))
    if isinstance(head, NeedMore):
        lane.head_incomplete(self.context.client, started=bool(self.buf))
        return
    if isinstance(head, Reject):
        reason = Reason.LIMIT_HEAD if head.kind is RejectKind.TOO_LARGE else Reason.REQUEST_MALFORMED
        yield from _refuse(self, reason, head.detail)
        return
    if not lane.in_tunnel(self.context.client) and head.target.form in (TargetForm.ORIGIN, TargetForm.ASTERISK):
        yield from _refuse(self, Reason.REQUEST_MALFORMED, _NOT_FOR_A_PROXY)
        return
    lane.head_complete(self.context.client)
    raw = self.buf.maybe_extract_at_most(head.length) or b""
    try:
        self.request = http1.read_request_head(bytes(raw)[:-4].split(b"\r\n"))
        size = http1.expected_http_body_size(self.request)
    except ValueError:
        yield from _refuse(self, Reason.REQUEST_MALFORMED, "the request's head cannot be read")
        return
    attach_head(self.request, head)
    yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, size == 0))
    self.body_reader = make_body_reader(size)
    self.state = self.read_body
    yield from self.state(event)


def read_response(self: Http1Client, event: events.Event) -> CommandGenerator[None]:
    """In place of `Http1Client.read_headers`."""
    if isinstance(event, events.ConnectionClosed):
        yield from _server_closed(self)
        return
    if not self.request:
        # Bytes past a response's end: the connection cannot be trusted to say what belongs to which request.
        yield commands.CloseConnection(self.conn)
        return
    head = parse_response_head(_buffered(self))
    if isinstance(head, NeedMore):
        return
    if isinstance(head, Reject) or self.stream_id is None:
        yield from _bad_response(self)
        return
    raw = self.buf.maybe_extract_at_most(head.length) or b""
    if head.interim:
        # mitmproxy would take an interim response for the final one; it has sent its own 100 already.
        yield from self.state(event)
        return
    try:
        self.response = http1.read_response_head(bytes(raw)[:-4].split(b"\r\n"))
        size = http1.expected_http_body_size(self.request, self.response)
    except ValueError:
        yield from _bad_response(self)
        return
    yield ReceiveHttp(ResponseHeaders(self.stream_id, self.response, size == 0))
    self.body_reader = make_body_reader(size)
    self.state = self.read_body
    yield from self.state(event)


def attach_head(request: http.Request, head: RequestHead) -> None:
    """Let the lane find what our parser read."""
    setattr(request, HEAD, head)


class BodyReader(ChunkedReader):
    """h11's reader of chunked bodies; trailers, which mitmproxy's layers crash on, are dropped (RFC 9110, 6.5.1)."""

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Read what is there of the body."""
        event = super().__call__(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


def error_response(status: int, message: str = "") -> bytes:
    """In place of mitmproxy's error page, which names itself and repeats bytes of the wire."""
    del status, message
    return Denial(new_decision_id(), Reason.INTERNAL_ERROR).http1()


def _buffered(self: Http1Server | Http1Client) -> bytearray:
    return self.buf._data  # noqa: SLF001 - the buffer has no other view of itself


def _refuse(self: Http1Server, reason: Reason, detail: str) -> CommandGenerator[None]:
    refused = RefusedHead(self.context.client, reason, detail)
    yield EgressHeadRefusedHook(refused)
    if refused.answer:
        yield commands.SendData(self.conn, refused.answer)
    yield commands.CloseConnection(self.conn)
    self.state = self.done


def _bad_response(self: Http1Client) -> CommandGenerator[None]:
    yield commands.CloseConnection(self.conn)
    if self.stream_id is not None:
        yield ReceiveHttp(
            ResponseProtocolError(self.stream_id, "malformed response", ErrorCode.RESPONSE_VALIDATION_FAILED)
        )


def _server_closed(self: Http1Client) -> CommandGenerator[None]:
    yield commands.CloseConnection(self.conn)
    if self.stream_id is not None:
        yield ReceiveHttp(
            ResponseProtocolError(self.stream_id, "server closed connection", ErrorCode.GENERIC_SERVER_ERROR)
        )

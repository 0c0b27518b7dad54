"""HTTP/1 heads for mitmproxy's layers, read by our own strict parser first.

mitmproxy forwards folded lines, bare line feeds, unknown versions and more than one Host, and keeps a head of any
size. What `egress.wire` refuses never becomes a flow: it is answered, recorded and closed here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import h11
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestHeaders, ResponseHeaders, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server, make_body_reader

from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.gate.naming import early_problem
from egress.mitm.attachment import attached
from egress.mitm.hooks_of_ours import EgressHeadRefusedHook, RefusedHead
from egress.policy import Reason
from egress.wire.chunked import ChunkedChecker
from egress.wire.head import (
    NeedMore,
    Reject,
    RejectKind,
    RequestHead,
    ResponseHead,
    TargetForm,
    Version,
    parse_request_head,
    parse_response_head,
    response_framing,
)

if TYPE_CHECKING:
    from h11._receivebuffer import ReceiveBuffer
    from mitmproxy.proxy.layer import CommandGenerator

HEAD = "egress_head"
INTERIMS = "egress_interims"
BODY_HAS_NO_END = "the chunked body has no end"
_INTERIMS_AT_MOST = 16

_VERSIONS = {Version.HTTP_10: b"HTTP/1.0", Version.HTTP_11: b"HTTP/1.1"}

type Problem = tuple[Reason, str]


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
    problem = _problem(head, _buffered(self), tunnelled=lane.in_tunnel(self.context.client))
    if isinstance(head, Reject) or problem is not None:
        yield from _refuse(self, problem)
        return
    lane.head_complete(self.context.client)
    raw = self.buf.maybe_extract_at_most(head.length) or b""
    try:
        self.request = _request(head, raw)
        size = http1.expected_http_body_size(self.request)
    except ValueError:
        yield from _refuse(self, (Reason.REQUEST_MALFORMED, "the request's head cannot be read"))
        return
    attach_head(self.request, head)
    yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, size == 0))
    self.body_reader = make_body_reader(size)
    if isinstance(self.body_reader, BodyReader):
        self.body_reader.takes_trailers = False
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
    if isinstance(head, Reject) or self.stream_id is None or _is_bad(self, head):
        yield from _bad_response(self)
        return
    self.buf.maybe_extract_at_most(head.length)
    if head.interim:
        # mitmproxy would take an interim response for the final one; it has sent its own 100 already.
        yield from self.state(event)
        return
    try:
        self.response = _response(head)
        size = http1.expected_http_body_size(self.request, self.response)
    except ValueError:
        yield from _bad_response(self)
        return
    yield ReceiveHttp(ResponseHeaders(self.stream_id, self.response, size == 0))
    self.body_reader = make_body_reader(size)
    self.state = self.read_body
    yield from self.state(event)


def _request(head: RequestHead, raw: bytes | bytearray) -> http.Request:
    """A head as mitmproxy has it. What a target in any form but the commonest means, it reads itself.

    Raises ValueError.
    """
    if head.target.form is not TargetForm.ORIGIN:
        return http1.read_request_head(bytes(raw)[:-4].split(b"\r\n"))
    path = head.target.origin.encode("ascii")
    method = head.method.encode("ascii")
    version, started = _VERSIONS[head.version], time.time()
    return http.Request("", 0, method, b"", b"", path, version, http.Headers(head.fields), None, None, started, None)


def _response(head: ResponseHead) -> http.Response:
    """A head as mitmproxy has it."""
    fields = http.Headers(head.fields)
    return http.Response(_VERSIONS[head.version], head.status, head.reason, fields, None, None, time.time(), None)


def _problem(head: RequestHead | Reject, buffered: bytearray, *, tunnelled: bool) -> Problem | None:
    """Why a head becomes no request: it cannot be read, is for no proxy, or what came with it of its body is broken."""
    if isinstance(head, Reject):
        too_large = head.kind is RejectKind.TOO_LARGE
        return Reason.LIMIT_HEAD if too_large else Reason.REQUEST_MALFORMED, head.detail
    if not tunnelled and head.target.form in (TargetForm.ORIGIN, TargetForm.ASTERISK):
        return Reason.REQUEST_MALFORMED, "this is a proxy: ask it for a whole URL, or for a tunnel with CONNECT"
    problem = early_problem(head, buffered[head.length :])
    return None if problem is None else (problem.reason, problem.detail)


def attach_head(request: http.Request, head: RequestHead) -> None:
    """Let the lane find what our parser read."""
    setattr(request, HEAD, head)


class BodyReader:
    """Reads a chunked body by our own parser, in the form that mitmproxy's layers ask h11's reader.

    An answer's trailers, which those layers cannot carry, are dropped (RFC 9110, section 6.5.1). A request's are
    refused: they come after the decision, and no rule has seen them.
    """

    def __init__(self) -> None:
        self._checker = ChunkedChecker()
        self.takes_trailers = True

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Take what is there of the body out of the buffer; None: more is needed."""
        checker = self._checker
        if not checker.complete:
            data = bytes(buffer)
            rejected = checker.feed(data)
            if rejected is not None or (checker.trailers and not self.takes_trailers):
                raise h11.RemoteProtocolError("the chunked body is malformed")
            buffer.maybe_extract_at_most(checker.consumed)
            body = b"".join(data[start:end] for start, end in checker.spans)
            if body:
                return h11.Data(body)
        return h11.EndOfMessage() if checker.complete else None

    def read_eof(self) -> h11.EndOfMessage:
        """The connection ended inside the body."""
        raise h11.RemoteProtocolError(BODY_HAS_NO_END)


def error_response(status: int, message: str = "") -> bytes:
    """In place of mitmproxy's error page, which names itself and repeats bytes of the wire."""
    del status, message
    return Denial(new_decision_id(), Reason.INTERNAL_ERROR).http1()


def _buffered(self: Http1Server | Http1Client) -> bytearray:
    return self.buf._data  # noqa: SLF001 - the buffer has no other view of itself


def _refuse(self: Http1Server, problem: Problem | None) -> CommandGenerator[None]:
    reason, detail = problem or (Reason.REQUEST_MALFORMED, "")
    refused = RefusedHead(self.context.client, reason, detail)
    yield EgressHeadRefusedHook(refused)
    if refused.answer:
        yield commands.SendData(self.conn, refused.answer)
    yield commands.CloseConnection(self.conn)
    self.state = self.done


def _is_bad(self: Http1Client, head: ResponseHead) -> bool:
    """Whether a readable head is no answer: it has a body where none may be, or is one interim answer too many."""
    interims = getattr(self, INTERIMS, 0) + 1 if head.interim else 0
    setattr(self, INTERIMS, interims)
    if self.request is None or interims > _INTERIMS_AT_MOST:
        return True
    return isinstance(response_framing(head, self.request.method), Reject)


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

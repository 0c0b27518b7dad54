"""HTTP/2 for mitmproxy's layers: heads read by the same strict parser, broken connections recorded, buffers bounded.

A request's pseudo-headers and fields are written as an HTTP/1.1 head and read back by `egress.wire`, so that one
parser decides for both versions, and what HTTP/1.1 could not carry unharmed to an upstream is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._http1 import Http1Connection
from mitmproxy.proxy.layers.http._http2 import Http2Connection, Http2Server
from mitmproxy.proxy.layers.websocket import WebsocketLayer

from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.mitm.hooks_of_ours import EgressHeadRefusedHook, RefusedHead
from egress.policy import Reason
from egress.wire.head import NeedMore, Reject, RejectKind, RequestHead, parse_request_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mitmproxy import http
    from mitmproxy.connection import Connection
    from mitmproxy.proxy.layer import CommandGenerator

_original_protocol_error = Http2Server.protocol_error
_LAYERS_AT_MOST = 4096
_MALFORMED = Reject(RejectKind.MALFORMED, "the HTTP/2 request holds what no HTTP request may hold")


def protocol_error(self: Http2Server, message: str, error_code: int = 1) -> CommandGenerator[None]:
    """In place of `Http2Connection.protocol_error` on the client's side: leave a record before closing."""
    yield EgressHeadRefusedHook(
        RefusedHead(self.context.client, Reason.REQUEST_MALFORMED, "the HTTP/2 connection breaks the protocol")
    )
    yield from _original_protocol_error(self, message, error_code)


def error_body(status_code: int, message: str) -> bytes:
    """In place of mitmproxy's HTML page, which repeats bytes of the wire."""
    del status_code, message
    return Denial(new_decision_id(), Reason.INTERNAL_ERROR).body()


def head_of(request: http.Request) -> RequestHead | Reject:
    """The head of an HTTP/2 request, as our own parser reads it."""
    fields = list(request.headers.fields)
    authority = request.data.authority
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if not authority:
        if len(hosts) != 1:
            return _MALFORMED
        authority = hosts[0]
    elif any(host != authority for host in hosts):  # INVARIANT one-name
        return Reject(RejectKind.MALFORMED, "Host and :authority differ")
    lines = [request.data.method + b" " + request.data.path + b" HTTP/1.1", b"host: " + authority]
    lines += [name + b": " + value for name, value in fields if name.lower() != b"host"]
    if any(byte in line for line in lines for byte in (b"\r", b"\n", b"\0")):
        return _MALFORMED
    head = parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n")
    # A name with a colon in it would be read as another name, and so would escape what a rule removes or replaces.
    names = [b"host", *(name for name, _ in fields if name.lower() != b"host")]
    if isinstance(head, NeedMore) or (isinstance(head, RequestHead) and [name for name, _ in head.fields] != names):
        return _MALFORMED
    return head


def held_bytes(top: Layer, reading: Connection | None) -> int:
    """Bytes that the layers hold for peers that have not taken them, but for what waits for `reading` itself.

    Whoever reads from a connection must never wait for that same connection: its window updates come that way.
    """
    held = 0
    pending: list[tuple[Layer, Connection | None]] = [(top, None)]
    for _ in range(_LAYERS_AT_MOST):
        if not pending:
            break
        layer, owner = pending.pop()
        if owner is None or owner is not reading:
            held += _held_by(layer)
        pending.extend(_children(layer, owner))
    return held


def _children(layer: Layer, owner: Connection | None) -> Iterator[tuple[Layer, Connection | None]]:
    if isinstance(layer, HttpLayer):
        yield from ((child, connection) for connection, child in layer.connections.items())
        yield from ((stream, None) for stream in layer.streams.values())
    for name in ("child_layer", "layer"):
        child = getattr(layer, name, None)
        if isinstance(child, Layer):
            yield child, owner


def _held_by(layer: Layer) -> int:
    if isinstance(layer, Http2Connection):
        return sum(len(chunk.data) for queue in layer.h2_conn.stream_buffers.values() for chunk in queue)
    if isinstance(layer, Http1Connection):
        return len(layer.buf)
    if isinstance(layer, HttpStream):
        return len(layer.request_body_buf) + len(layer.response_body_buf)
    if isinstance(layer, WebsocketLayer) and hasattr(layer, "client_ws"):
        return sum(len(part) for side in (layer.client_ws, layer.server_ws) for part in side.frame_buf)
    return 0

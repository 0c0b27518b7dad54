"""How much the layers of one client connection hold in memory: mitmproxy bounds none of it.

What is held: HTTP/2 data for a peer whose window is full, requests that are pipelined behind one under way, events of
a stream that waits for a hook, a TLS hello that does not end, fragments of a WebSocket message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._http1 import Http1Connection
from mitmproxy.proxy.layers.http._http2 import Http2Connection
from mitmproxy.proxy.layers.tls import ClientTLSLayer
from mitmproxy.proxy.layers.websocket import WebsocketLayer

from egress.mitm.awaited import AWAITED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mitmproxy.connection import Connection

_LAYERS_AT_MOST = 4096


def held_bytes(top: Layer, reading: Connection | None) -> int:
    """Bytes that the layers below `top` hold, but for HTTP/2 data that waits for `reading` itself.

    Whoever reads from a connection must never wait for that same connection: its window updates come that way.
    """
    held = 0
    pending: list[tuple[Layer, Connection | None]] = [(top, None)]
    seen: set[int] = set()
    while pending and len(seen) < _LAYERS_AT_MOST:
        layer, owner = pending.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        held += _held_by(layer) + _waiting_in(layer)
        if isinstance(layer, Http2Connection) and (owner is None or owner is not reading):
            held += _unsent(layer)
        pending.extend(children(layer, owner))
    return held


def children(layer: Layer, owner: Connection | None) -> Iterator[tuple[Layer, Connection | None]]:
    """The layers directly below, each with the connection that it speaks on, as far as that is known."""
    if isinstance(layer, HttpLayer):
        yield from ((child, connection) for connection, child in layer.connections.items())
        yield from ((stream, None) for stream in layer.streams.values())
    for name in ("child_layer", "layer"):
        child = getattr(layer, name, None)
        if isinstance(child, Layer):
            yield child, owner
    # The outermost layer knows its child only by the method that it hands events to.
    handed_to = getattr(layer._handle_event, "__self__", None)  # noqa: SLF001 - there is no other way down
    if isinstance(handed_to, Layer):
        yield handed_to, owner


def _held_by(layer: Layer) -> int:
    match layer:
        case Http1Connection():
            return len(layer.buf)
        case HttpStream():
            # An awaited body has a limit of its own; whoever reads must never wait for what only reading can end.
            awaited = layer.flow.metadata.get(AWAITED) if hasattr(layer, "flow") else None
            return (0 if awaited else len(layer.request_body_buf)) + len(layer.response_body_buf)
        case ClientTLSLayer():
            return len(layer.recv_buffer)
        case WebsocketLayer() if hasattr(layer, "client_ws"):
            return sum(len(part) for side in (layer.client_ws, layer.server_ws) for part in side.frame_buf)
        case _:
            return 0


def _unsent(layer: Http2Connection) -> int:
    return sum(len(chunk.data) for queue in layer.h2_conn.stream_buffers.values() for chunk in queue)


def _waiting_in(layer: Layer) -> int:
    """Data events that a layer has put aside while it waits for a hook or a connection."""
    return sum(len(getattr(event, "data", b"")) for event in layer._paused_event_queue)  # noqa: SLF001 - likewise

"""WebSockets by hand (RFC 6455): a site that allows them, a server that echoes, and a client's bytes."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from rig.modes import HOST, Site
from rig.proxy import LOOPBACK, SECRET, port_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream

    from rig.proxy import Proxy
    from rig.wire import Wire

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def policy(port: int, protocol: str = "wss") -> str:
    """Allows WebSockets, or not."""
    return f"""
version: 1
secrets: {{canary: {{env: CANARY, hosts: ["{HOST}:{port}"]}}}}
rules:
  - {{allow: "{HOST}:{port}", protocol: [{protocol}], inject: {{X-Api-Key: "${{canary}}"}}, {LOOPBACK}}}
"""


def socket_site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A proxy that lets WebSockets through."""
    port = port_of(origin)
    return Site(start(policy(port), HOST, env={"CANARY": SECRET}), origin, port)


def accept(stream: Stream, more: bytes = b"") -> None:
    """Accept the handshake that a client asks for (RFC 6455, section 4.2.2), with `more` fields."""
    asked = stream.request()
    assert asked is not None
    (key,) = asked.values(b"sec-websocket-key")
    answer = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 -- RFC 6455 says so
    stream.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + answer + b"\r\n" + more + b"\r\n"
    )


def echo(stream: Stream) -> None:
    """Accept the handshake, then send each frame back unmasked."""
    accept(stream)
    while len(start := _exactly(stream, 2)) == 2:
        length = start[1] & 0x7F
        mask = _exactly(stream, 4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(_exactly(stream, length)))
        stream.send(bytes([start[0], length]) + data)
        if start[0] & 0x0F == 8:
            return


def _exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.receive(count - len(data))
        if not more:
            break
        data += more
    return data


def handshake(site: Site, *more: str) -> bytes:
    """A WebSocket handshake's request."""
    rows = [
        "GET /socket HTTP/1.1",
        f"Host: {HOST}:{site.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        *more,
    ]
    return "\r\n".join([*rows, "", ""]).encode()


def frame(data: bytes, opcode: int = 1) -> bytes:
    """A masked frame of a client."""
    return bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data


def receive_frame(wire: Wire) -> bytes:
    """The next frame's data."""
    start = wire.exactly(2)
    return wire.exactly(start[1] & 0x7F) if len(start) == 2 else b""

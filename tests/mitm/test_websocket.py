"""WebSockets through the lane: allowed where a rule says so, counted, cut on reload, and never an unseen tunnel."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
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


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
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


def test_a_websocket_that_a_rule_allows_works(site: Site) -> None:
    """Handshake, messages both ways, close; one row with both counts; the secret went with the handshake."""
    with site.origin.behaving(echo), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        assert wire.reply("CONNECT").status == 101
        for text in (b"hello", b"again"):
            wire.send(frame(text))
            assert receive_frame(wire) == text
        wire.send(frame(b"\x03\xe8", 8))
        receive_frame(wire)
    row, outcome = site.proxy.ledger.only()
    assert (row.protocol, row.scheme, row.method, row.path) == ("wss", "https", "GET", "/socket")
    assert (outcome.status, outcome.bytes_up, outcome.bytes_down) == (101, 10, 10)
    assert SECRET.encode() in site.received


def test_no_compression_is_negotiated(site: Site) -> None:
    """A compressed message grows a thousandfold in memory; neither side's offer of it passes."""

    def compressing(stream: Stream) -> None:
        accept(stream, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")

    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    with site.origin.behaving(compressing), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site).removesuffix(b"\r\n") + offer)
        reply = wire.reply("CONNECT")
    assert reply.status == 101
    assert reply.field("sec-websocket-extensions") is None
    assert b"permessage-deflate" not in site.received


def test_no_message_is_kept(site: Site) -> None:
    """Mitmproxy would hold every message for the life of the connection."""
    from mitmproxy.proxy.layers.websocket import WebsocketLayer

    from egress.mitm.holding import children

    with site.origin.behaving(echo), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        assert wire.reply("CONNECT").status == 101
        for _ in range(20):
            wire.send(frame(b"x" * 100))
            receive_frame(wire)
        (connection,) = site.proxy.lane.connections.values()
        layers, found = [connection.handler.layer], []
        seen: set[int] = set()
        while layers:
            layer = layers.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                layers += [child for child, _ in children(layer, None)]
                found += [layer] if isinstance(layer, WebsocketLayer) else []
        (socket,) = found
        assert socket.flow.websocket is not None
        assert len(socket.flow.websocket.messages) <= 1


@pytest.mark.parametrize("protocol", ["https", "http", "ws"])
def test_a_websocket_that_no_rule_allows_is_refused(
    protocol: str, start: Callable[..., Proxy], origin: Origins
) -> None:
    """A rule for https is none for wss."""
    port = port_of(origin)
    text = policy(port, protocol).replace('inject: {X-Api-Key: "${canary}"}, ', "")
    if protocol != "https":
        text += f"  - {{allow: '{HOST}:{port}', protocol: https, paths: [/other], {LOOPBACK}}}\n"
    site = Site(start(text, HOST), origin, port)
    with site.proxy.inside(HOST, port, "http/1.1") as wire:
        wire.send(handshake(site))
        reply = wire.reply()
    assert (reply.status, reply.reason) == (403, "protocol-not-allowed")
    assert origin.connections == []


def test_an_upgrade_that_is_not_taken_is_an_answer(site: Site) -> None:
    """A server that answers 200 in place of 101."""

    def plain(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    with site.origin.behaving(plain), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        reply = wire.reply()
    assert (reply.status, reply.body) == (200, b"no")
    assert site.proxy.ledger.only()[1].status == 200


def test_a_switch_to_another_protocol_than_asked_is_no_tunnel(site: Site) -> None:
    """101 with another Upgrade: what follows is not passed on as raw bytes."""

    def switch(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 101 Switching\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\ncanary-bytes")
        stream.receive()

    with site.origin.behaving(switch), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        wire.send(b"raw bytes of the client")
        assert b"canary-bytes" not in wire.rest()
    assert b"raw bytes" not in site.received
    site.proxy.until(lambda: not site.proxy.gate.open, "the end")


def test_a_reload_that_denies_it_cuts_a_websocket(site: Site) -> None:
    """An open WebSocket is a request that goes on for long."""
    with site.origin.behaving(echo), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        assert wire.reply("CONNECT").status == 101
        assert site.proxy.reload("version: 1\nrules: []\n") == 1
        wire.rest()
    assert (site.proxy.ledger.only()[1].error or "").startswith("policy-reload")


@pytest.mark.parametrize("hook", ["websocket_message", "websocket_end"])
def test_fail_closed_in_a_websocket(site: Site, hook: str) -> None:
    """A hook that raises while messages go ends the connection, with an outcome."""
    from rig.faults import Fault, break_hook

    struck = break_hook(site.proxy.lane, hook, Fault.RAISE)
    with site.origin.behaving(echo), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        assert wire.reply("CONNECT").status == 101
        wire.send(frame(b"hello")).send(frame(b"\x03\xe8", 8))
        wire.rest()
    site.proxy.until(lambda: bool(struck), hook)
    site.proxy.ledger.only()

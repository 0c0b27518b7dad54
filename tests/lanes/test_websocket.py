"""WebSockets through the lane: allowed where a rule says so, counted, cut on reload, and never an unseen tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Site
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of
from rig.websocket import accept, echo, frame, handshake, policy, receive_frame, socket_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A proxy that lets WebSockets through."""
    return socket_site(start, origin)


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
    # The front counts what is on the wire, the mitm lane what is in the messages.
    counted = (30, 18) if site.proxy.carrier is Carrier.FRONT else (10, 10)
    assert (outcome.status, outcome.bytes_up, outcome.bytes_down) == (101, *counted)
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

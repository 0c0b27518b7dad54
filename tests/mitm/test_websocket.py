"""WebSockets in mitmproxy's layers: no message is kept, and a hook that fails ends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Site
from rig.websocket import echo, frame, handshake, receive_frame, socket_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A proxy that lets WebSockets through."""
    return socket_site(start, origin)


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

"""What clients do that are through to their destination by another road than CONNECT, or on it without knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.modes import HOST, RAW, TUNNELLED, Mode, Site
from rig.wire import Http2, Reply, Wire, head

if TYPE_CHECKING:
    from rig.proxy import Proxy

NAMES = {Mode.TUNNEL: TUNNELLED, Mode.TCP: RAW}


def exchange(site: Site, mode: Mode, wire: Wire) -> Reply:
    """The exchange of a mode, on a connection that leads to its destination."""
    host = NAMES.get(mode, HOST)
    ca = site.origin._authority.ca_file.read_bytes() if mode is Mode.TUNNEL else None
    if mode in {Mode.PLAIN, Mode.TCP}:
        return wire.send(f"GET /x HTTP/1.1\r\nHost: {host}:{site.port}\r\n\r\n".encode()).reply()
    with site.proxy.secure(wire, host, "h2" if mode is Mode.TLS2 else "http/1.1", ca=ca) as inside:
        if mode is Mode.TLS2:
            client = Http2(inside)
            return client.reply(client.request(head(f"{host}:{site.port}", "/x")))
        return inside.send(f"GET /x HTTP/1.1\r\nHost: {host}:{site.port}\r\n\r\n".encode()).reply()


def was_reset(wire: Wire) -> bool:
    """Whether the proxy broke the connection off, with not one byte."""
    try:
        wire.carrier.recv(1)
    except ConnectionResetError:
        return True
    return False


def is_reset(proxy: Proxy, sent: bytes = b"") -> bool:
    """Whether the proxy breaks a new connection off; it may do so before its client knows that it stands."""
    try:
        wire = proxy.connect()
    except ConnectionResetError:
        return True
    with wire:
        return was_reset(wire.send(sent) if sent else wire)

"""The four ways in which a request passes the lane, each as one exchange that succeeds when nothing is wrong."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok

from rig.http2_origin import answer_http2
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of
from rig.wire import NOTHING, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Connection, Origins

    from egress.mitm.lane import MitmLane
    from rig.proxy import Proxy
    from rig.wire import Reply

HOST = "ok.test"
TUNNELLED = "tunnel.test"
RAW = "raw.test"


class Mode(StrEnum):
    """How the request travels."""

    PLAIN = "plain"
    TLS1 = "tls-h1"
    TLS2 = "tls-h2"
    TUNNEL = "tunnel"
    TCP = "tcp"


def carried(names: str, *cases: tuple[object, ...]) -> pytest.MarkDecorator:
    """Each case in each carrier that can carry its mode, which is its first value: the front opens no HTTP/2."""
    marked = [
        pytest.param(carrier, *case, id="-".join(map(str, (carrier.value, *case))))
        for carrier in Carrier
        for case in cases
        if (carrier, case[0]) != (Carrier.FRONT, Mode.TLS2)
    ]
    return pytest.mark.parametrize(f"carrier, {names}", marked, indirect=["carrier"])


# The order of mitmproxy's hooks (and ours) in an exchange that succeeds, on which the lane relies.
# `client_disconnected` may stand before or after what follows the answer, so it is looked at apart.
_OPEN = ("client_connected", "next_layer")
_CONNECT = (*_OPEN, "http_connect", "http_connected")
_HANDSHAKE = ("next_layer", "tls_clienthello", "tls_start_client", "tls_established_client", "next_layer")
_DIAL = ("server_connect", "server_connected")
_UPSTREAM_TLS = ("tls_start_server", "tls_established_server")
_ANSWER = ("responseheaders", "response")
HOOKS: dict[Mode, tuple[str, ...]] = {
    Mode.PLAIN: (*_OPEN, "requestheaders", "request", *_DIAL, "egress_upstream_ready", *_ANSWER),
    Mode.TLS1: (
        *_CONNECT,
        *_HANDSHAKE,
        "requestheaders",
        "request",
        *_DIAL,
        *_UPSTREAM_TLS,
        "egress_upstream_ready",
        *_ANSWER,
    ),
    Mode.TLS2: (
        *_CONNECT,
        *_HANDSHAKE,
        "requestheaders",
        "request",
        *_DIAL,
        *_UPSTREAM_TLS,
        "egress_upstream_ready",
        *_ANSWER,
    ),
    Mode.TUNNEL: (*_CONNECT, "next_layer", "tls_clienthello", *_DIAL),
    Mode.TCP: (*_CONNECT, *_DIAL),
}
# From here on the upstream has the request, and only what comes back can still be held.
SENT = frozenset({"responseheaders", "response", "client_disconnected", "server_disconnected"})


@dataclass
class Site:
    """A proxy, the origin behind it, and the one exchange of each mode."""

    proxy: Proxy
    origin: Origins
    port: int

    def exchange(self, mode: Mode, path: str = "/x") -> Reply:
        """Do it; status 0 wherever the proxy ended the connection instead of answering."""
        with contextlib.suppress(OSError, AssertionError):
            return _EXCHANGES[mode](self, path)
        return NOTHING

    @property
    def received(self) -> bytes:
        """Every byte of a request, or of a tunnel, that the origin was sent."""
        return b"".join(_application(connection) for connection in tuple(self.origin.connections))

    @contextlib.contextmanager
    def serving(self, mode: Mode) -> Iterator[None]:
        """Let the origin speak what the mode needs."""
        if mode is Mode.TLS2:
            with self.origin.behaving(answer_http2, alpn=("h2",)):
                yield
        else:
            with self.origin.behaving(answer_ok):
                yield


def _application(connection: Connection) -> bytes:
    if bytes(connection.received).startswith(b"PRI "):
        # The preface and the settings are the connection's; only heads and bodies are a request's.
        return repr(connection.requests).encode() if connection.requests else b""
    # In a tunnel the handshake itself is the client's; an inspected one is ours, and no part of the request.
    return (bytes(connection.raw) if connection.sni == TUNNELLED else b"") + bytes(connection.received)


def policy(port: int) -> str:
    """Allows the site's names, with a secret in what is inspected."""
    return f"""
version: 1
secrets:
  canary: {{env: CANARY, hosts: ["{HOST}:{port}"]}}
rules:
  - name: the site over TLS
    allow: "{HOST}:{port}"
    protocol: [https, wss]
    inject: {{X-Api-Key: "Key ${{canary}}"}}
    {LOOPBACK}
  - name: the site in the clear
    allow: "{HOST}:{port}"
    protocol: [http, ws]
    {LOOPBACK}
  - {{name: a tunnel, allow: "{TUNNELLED}:{port}", tls: tunnel, {LOOPBACK}}}
  - {{name: raw, allow: "{RAW}:{port}", protocol: tcp, {LOOPBACK}}}
"""


def make_site(start: Callable[..., Proxy], origin: Origins, **more: object) -> Site:
    """A proxy for an origin, with the site's policy and names."""
    port = port_of(origin)
    return Site(start(policy(port), HOST, TUNNELLED, RAW, env={"CANARY": SECRET}, **more), origin, port)


def record_hooks(lane: MitmLane) -> list[str]:
    """The names of the hooks that the lane runs from now on, in order."""
    names: list[str] = []
    run = lane.run

    async def recorded(handler: object, hook: object, data: object) -> None:
        names.append(hook.name)  # type: ignore[attr-defined]
        await run(handler, hook, data)  # type: ignore[arg-type]

    lane.run = recorded  # type: ignore[method-assign]
    return names


def _plain(site: Site, path: str) -> Reply:
    return site.proxy.ask(HOST, site.port, path)


def _tls1(site: Site, path: str) -> Reply:
    wire, reply = site.proxy.tunnel(HOST, site.port)
    with wire:
        if reply.status != 200:
            return reply
        with site.proxy.secure(wire, HOST, "http/1.1") as secured:
            secured.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
            return secured.reply()


def _tls2(site: Site, path: str) -> Reply:
    wire, reply = site.proxy.tunnel(HOST, site.port)
    with wire:
        if reply.status != 200:
            return reply
        with site.proxy.secure(wire, HOST, "h2") as secured:
            from rig.wire import Http2

            client = Http2(secured)
            return client.reply(client.request(head(f"{HOST}:{site.port}", path)))


def _tunnel(site: Site, path: str) -> Reply:
    wire, reply = site.proxy.tunnel(TUNNELLED, site.port)
    with wire:
        if reply.status != 200:
            return reply
        ca = site.origin._authority.ca_file.read_bytes()
        with site.proxy.secure(wire, TUNNELLED, "http/1.1", ca=ca) as secured:
            secured.send(f"GET {path} HTTP/1.1\r\nHost: {TUNNELLED}\r\n\r\n".encode())
            return secured.reply()


def _tcp(site: Site, path: str) -> Reply:
    wire, reply = site.proxy.tunnel(RAW, site.port)
    with wire:
        if reply.status != 200:
            return reply
        wire.send(f"GET {path} HTTP/1.1\r\nHost: {RAW}\r\n\r\n".encode())
        return wire.reply()


_EXCHANGES = {Mode.PLAIN: _plain, Mode.TLS1: _tls1, Mode.TLS2: _tls2, Mode.TUNNEL: _tunnel, Mode.TCP: _tcp}

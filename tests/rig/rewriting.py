"""A policy that sends requests elsewhere, a client that asks for one, and what of it came where it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.origins import answer_ok

from rig.http2_origin import answer_http2
from rig.modes import Mode
from rig.proxy import LOOPBACK
from rig.wire import head

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.origins import Connection, Origins

    from rig.proxy import Proxy
    from rig.wire import Reply

# A name that nothing resolves, and one that is pinned to loopback.
ASKED = "llm.test"
REACHED = "gateway.test"
# The modes in which a request is looked into, each as a case of `carried`.
EVERY = (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,)


def policy(
    port: int,
    *,
    rewrite: str = "path_prefix: {from: /v1, to: /api/v1}",
    scheme: str = "https",
    gateway: str | None = None,
    bound: str | None = None,
    inject: str = 'inject: {X-Api-Key: "Key ${canary}"}',
) -> str:
    """Requests to ASKED go to REACHED on `port`. `gateway`: the rule for that; `bound`: where the secret may go."""
    reached = f"{REACHED}:{port}"
    return f"""
version: 1
secrets:
  canary: {{env: CANARY, hosts: ["{bound or reached}"]}}
rules:
  - name: model
    allow: {ASKED}
    rewrite: {{scheme: {scheme}, host: {REACHED}, port: {port}, {rewrite}}}
    {inject}
  - {gateway or f'{{name: gateway, allow: "{reached}", {LOOPBACK}}}'}
"""


def ask(
    proxy: Proxy,
    mode: Mode,
    path: str = "/v1/chat?a=1",
    host: str = ASKED,
    more: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """A GET, as the mode sends it, with `more` fields; an HTTPS client verifies that it speaks to the name it asked."""
    if mode is Mode.PLAIN and not more:
        return proxy.ask(host, 80, path)
    rows = "".join(f"{name}: {value}\r\n" for name, value in more)
    if mode is Mode.PLAIN:
        with proxy.connect() as wire:
            wire.send(f"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{rows}\r\n".encode())
            return wire.reply()
    if mode is Mode.TLS1:
        with proxy.inside(host, 443, "http/1.1") as wire:
            wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{rows}\r\n".encode())
            return wire.reply()
    with proxy.http2(host, 443) as client:
        return client.reply(client.request(head(host, path, "GET", *more)))


def went_up(origin: Origins, mode: Mode) -> tuple[str, str, list[str]]:
    """Of the one request that came: authority, target, and the values of the header that is injected."""
    (connection,) = [each for each in origin.connections if each.requests]
    (request,) = connection.requests
    if mode is Mode.TLS2:
        fields = dict(request)  # type: ignore[call-overload] -- of the HTTP/2 origin
        return fields[":authority"], fields[":path"], [fields["x-api-key"]] if "x-api-key" in fields else []
    (host,) = request.values(b"host")
    keys = [value.decode() for value in request.values(b"x-api-key")]
    return host.decode(), request.line.split(b" ")[1].decode(), keys


def serving(origin: Origins, mode: Mode) -> AbstractContextManager[None]:
    """Let the origin speak what comes."""
    return origin.behaving(answer_http2, alpn=("h2",)) if mode is Mode.TLS2 else origin.behaving(answer_ok)


def reached(origin: Origins) -> list[Connection]:
    """The connections on which a request came."""
    return [each for each in origin.connections if each.requests]

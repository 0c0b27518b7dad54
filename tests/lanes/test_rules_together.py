"""What a rule asks of a body, where it sends the request, and how much may pass: together, in one request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from rig.modes import Mode, carried
from rig.proxy import LOOPBACK, Proxy, port_of
from rig.rewriting import ASKED, EVERY, REACHED, serving
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.wire import Reply

AT_MOST = 2


def call(tool: str) -> bytes:
    """A `tools/call` as bytes."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}).encode()


@pytest.fixture
def proxy(start: Callable[..., Proxy], origin: Origins) -> Proxy:
    """One rule rewrites and limits, and the rule for where requests then go judges their bodies."""
    port = port_of(origin)
    policy = f"""
version: 1
rules:
  - name: asked
    allow: {ASKED}
    rewrite: {{scheme: https, host: {REACHED}, port: {port}}}
    limits: {{requests: {AT_MOST}/h, upload: 1000B/h}}
  - {{name: reached, allow: "{REACHED}:{port}", mcp: {{tools: ["search_*"]}}, {LOOPBACK}}}
"""
    return start(policy, REACHED)


def post(proxy: Proxy, mode: Mode, body: bytes) -> Reply:
    """One call, as the mode sends it."""
    fields = [("content-type", "application/json"), ("content-length", str(len(body)))]
    if mode is Mode.TLS2:
        with proxy.http2(ASKED, 443) as client:
            return client.reply(client.request(head(ASKED, "/mcp", "POST", fields[0]), body))
    context = proxy.connect() if mode is Mode.PLAIN else proxy.inside(ASKED, 443, "http/1.1")
    target = f"http://{ASKED}/mcp" if mode is Mode.PLAIN else "/mcp"
    lines = [f"POST {target} HTTP/1.1", f"Host: {ASKED}", *(f"{name}: {value}" for name, value in fields), "", ""]
    with context as wire:
        return wire.send("\r\n".join(lines).encode() + body).reply("POST")


@carried("mode", *EVERY)
def test_a_rewritten_request_is_judged_by_its_body_and_counted_by_both_rules(
    proxy: Proxy, origin: Origins, mode: Mode
) -> None:
    """Refused are the tool that the second rule does not name, and what the first rule's limit does not let pass."""
    with serving(origin, mode):
        reasons = [post(proxy, mode, call(tool)).reason for tool in ("delete_x", "search_x", "search_y", "search_z")]
    assert reasons == ["body-not-allowed", None, None, "limit-requests"]
    arrived = b"".join(bytes(seen.received) for seen in origin.connections)
    assert arrived.count(b'"search_') == AT_MOST
    assert b"delete_x" not in arrived
    assert b"search_z" not in arrived


@carried("mode", *EVERY)
def test_a_held_body_over_the_byte_limit_never_leaves(proxy: Proxy, origin: Origins, mode: Mode) -> None:
    """It was read to be judged, and allowed; then the limit of the rule that rewrites it holds."""
    with serving(origin, mode):
        reply = post(proxy, mode, call("search_" + "x" * 2_000))
    assert (reply.status, reply.reason) == (429, "limit-bytes")
    assert not [seen for seen in origin.connections if b"search_" in bytes(seen.received)]

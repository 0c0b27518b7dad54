"""The guard: what stands in mitmproxy's classes, and that a mitmproxy without one of those places does not start."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mitmproxy import dns, http
from mitmproxy.proxy import mode_servers
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import _http1, _http2
from mitmproxy.test import tflow

from egress.mitm import arming, attachment, dialling, draining, guard, handler, hook_runs, http1, http2, stream

REPLACED = [
    (mode_servers.ProxyConnectionHandler, "handle_hook", hook_runs.handle_hook),
    (mode_servers.ProxyConnectionHandler, "open_connection", dialling.open_connection),
    (mode_servers.ProxyConnectionHandler, "server_event", handler.server_event),
    (mode_servers.ProxyConnectionHandler, "drain_writers", draining.drain_writers),
    (mode_servers.ProxyConnectionHandler, "log", handler.log),
    (_http1.Http1Server, "read_headers", http1.read_request),
    (_http1.Http1Client, "read_headers", http1.read_response),
    (_http1, "ChunkedReader", http1.BodyReader),
    (_http1, "make_error_response", http1.error_response),
    (_http2, "format_error", http2.error_body),
    (_http2.Http2Server, "protocol_error", http2.protocol_error),
    (_http2.Http2Server, "handle_h2_event", http2.handle_event),
    (http_layers, "HttpStream", stream.GuardedStream),
]

MISSING = """
import sys
from mitmproxy.proxy import mode_servers, server
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import _http1, _http2
owner, name = {
    "handle_hook": (mode_servers.ProxyConnectionHandler, "handle_hook"),
    "open_connection": (server.ConnectionHandler, "open_connection"),
    "read_headers": (_http1.Http1Client, "read_headers"),
    "ChunkedReader": (_http1, "ChunkedReader"),
    "format_error": (_http2, "format_error"),
    "HttpStream": (http_layers, "HttpStream"),
}[sys.argv[1]]
from egress.mitm import attachment, guard, handler, http1, http2, stream
from egress.errors import StartError
for place in getattr(owner, "__mro__", (owner,)):
    if name in vars(place):
        delattr(place, name)
try:
    guard.install()
except StartError as error:
    print(error)
"""


@pytest.mark.parametrize(("owner", "name", "ours"), REPLACED, ids=[name for _, name, _ in REPLACED])
def test_what_fails_open_in_mitmproxy_is_replaced(owner: object, name: str, ours: object) -> None:
    """After `install` each place holds our own, on the class or module itself."""
    guard.install()
    assert getattr(owner, name) is ours


def test_installing_twice_changes_nothing() -> None:
    """A script is loaded again on each reload."""
    guard.install()
    before = [getattr(owner, name) for owner, name, _ in REPLACED]
    guard.install()
    assert [getattr(owner, name) for owner, name, _ in REPLACED] == before


@pytest.mark.parametrize(
    "name", ["handle_hook", "open_connection", "read_headers", "ChunkedReader", "format_error", "HttpStream"]
)
def test_a_mitmproxy_without_a_place_to_replace_does_not_start(name: str) -> None:
    """Another version that renamed it must not run unguarded."""
    done = subprocess.run(
        [sys.executable, "-c", MISSING, name], capture_output=True, text=True, check=False, timeout=60
    )
    assert f"has no {name} to replace" in done.stdout, done.stderr


def test_only_the_lane_in_charge_can_be_detached() -> None:
    """A script that was loaded anew does not lose its place to the end of the old one."""
    first, second = SimpleNamespace(), SimpleNamespace()
    before = attachment.attached()
    try:
        attachment.attach(first)  # type: ignore[arg-type]
        attachment.attach(second)  # type: ignore[arg-type]
        attachment.detach(first)  # type: ignore[arg-type]
        assert attachment.attached() is second
        attachment.detach(second)  # type: ignore[arg-type]
        assert attachment.attached() is None
    finally:
        if before is not None:
            attachment.attach(before)


def test_arm_is_a_denial_before_any_hook() -> None:
    """Every hook's data starts in the state of refusal, so that a hook that never runs refuses."""
    flow = tflow.tflow()
    for name in ("requestheaders", "http_connect"):
        flow.response = None
        arming.arm(name, flow)
        assert flow.response is not None
        assert json.loads(flow.response.content or b"")["reason"] == "internal-error"
    client = SimpleNamespace(error=None)
    arming.arm("client_connected", client)
    assert client.error
    connect = SimpleNamespace(server=SimpleNamespace(error=None))
    arming.arm("server_connect", connect)
    assert connect.server.error
    for name in ("tls_start_client", "tls_start_server"):
        start = SimpleNamespace(ssl_conn=object())
        arming.arm(name, start)
        assert start.ssl_conn is None
    use = SimpleNamespace(refusal="")
    arming.arm("egress_upstream_ready", use)
    assert use.refusal
    question = tflow.tdnsflow()
    arming.arm("dns_request", question)
    assert question.response is not None
    assert question.response.response_code == dns.response_codes.REFUSED


def test_arming_an_unknown_hook_changes_nothing() -> None:
    """Hooks without an answer of their own are ended by closing the connection."""
    flow = tflow.tflow(resp=True)
    response = flow.response
    arming.arm("response", flow)
    assert flow.response is response
    assert isinstance(response, http.Response)

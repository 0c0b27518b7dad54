"""Fault injection: an exception and a hang in every hook and part that judges. The origin sees no request, ever."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.frames import Http2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess
    from harness.world import World

POLICY = """\
version: 1
default: deny
secrets:
  key: {env: EGRESS_TEST_KEY, hosts: [allowed.test]}
rules:
  - allow: allowed.test:443
    inject: {Authorization: "Bearer ${key}"}
  - allow: allowed.test:80
"""
CONFIG = "audit: {flush_interval: 0.02}\nlimits: {drain_seconds: 1, resolve_seconds: 1, audit_seconds: 0.2}\n"

# Every hook that runs before a request's first byte leaves, by what the client does.
BEFORE_TLS = (
    "client_connected",
    "next_layer",
    "http_connect",
    "http_connected",
    "tls_clienthello",
    "tls_start_client",
    "tls_established_client",
    "requestheaders",
    "server_connect",
    "tls_start_server",
    "tls_established_server",
    "egress_upstream_ready",
)
BEFORE_PLAIN = ("client_connected", "next_layer", "requestheaders", "server_connect", "egress_upstream_ready")
# These run when the request is out already: no body may come back, or at least the proxy must live on.
AFTER = ("responseheaders", "response", "error", "client_disconnected", "server_disconnected", "server_connected")

# Every part that judges, dials, records or puts a secret on.
POINTS = (
    "egress.gate.gate:permit",
    "egress.gate.gate:dial",
    "egress.gate.gate:Gate.admit",
    "egress.gate.gate:Gate.judge_connect",
    "egress.gate.gate:Gate.ready",
    "egress.gate.resolver:Resolver.resolve",
    "egress.gate.record:Recorder.record",
    "egress.gate.record:Recorder.event",
    "egress.audit:AuditWriter.offer",
    "egress.credentials:CredentialStore.render",
    "egress.policy:Policy.decide_name",
    "egress.policy:Policy.decide_request",
    "egress.policy:Policy.decide_address",
)
MAY_HANG = ("egress.gate.gate:permit", "egress.gate.gate:dial", "egress.gate.resolver:Resolver.resolve")


class Broken:
    """A proxy whose parts break as `switch` says."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.switch = folder / "switch"
        self.switch.write_text("")
        script = Path(__file__).with_name("faulty_proxy.py")
        points = tuple(word for point in POINTS for word in ("--point", point))
        options = ("--switch", str(self.switch), *points, "--hook-seconds", "0.7", "--")
        command = (sys.executable, str(script), *options)
        self.proxy: ProxyProcess = world.start(
            POLICY, command=command, config=CONFIG, env={"EGRESS_TEST_KEY": "k" * 20}
        )
        assert self.proxy.address

    def set(self, fault: str) -> None:
        """Break one thing; the empty string mends all."""
        new = self.switch.with_suffix(".new")
        new.write_text(fault)
        new.rename(self.switch)


@pytest.fixture(scope="module")
def broken(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """One such proxy for all cases."""
    made = Broken(world, tmp_path_factory.mktemp("broken"))
    yield made
    made.set("")
    assert made.proxy.stop() == 0, made.proxy.log[-3000:]


def over_tls(client: Attacker) -> None:
    """A request in TLS in a tunnel."""
    if client.connect("allowed.test:443") and client.handshake("allowed.test"):
        client.send(b"GET /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        client.response(patience=3)


def over_http2(client: Attacker) -> None:
    """The same in HTTP/2."""
    if client.connect("allowed.test:443") and client.handshake("allowed.test", ["h2"]):
        http2 = Http2(client)
        head = [(":method", "GET"), (":scheme", "https"), (":authority", "allowed.test"), (":path", "/x")]
        http2.request(1, head)
        client.answers.inside += bytes(http2.wait(1).body)


def plain(client: Attacker) -> None:
    """A request in the clear."""
    client.send(b"GET http://allowed.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    client.response(patience=3)


WAYS = {"tls": over_tls, "h2": over_http2, "plain": plain}


def attempt(broken: Broken, fault: str, way: str) -> tuple[list[bytes], bytes]:
    """What origins got, and what the client got, with this fault; then mended, the same must pass."""
    world = broken.world
    broken.set(fault)
    connections, _, _ = world.marks()
    with world.attacker(broken.proxy, world.fresh_client()) as client:
        WAYS[way](client)
        got = client.answers.everything
    world.settle(connections)
    arrived = [bytes(seen.received) for seen in world.origins.since(connections) if seen.received]
    broken.set("")
    assert broken.proxy.alive
    return arrived, got


def mended(broken: Broken) -> bool:
    """Without a fault the request passes, so that its absence above proves something."""
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        arrived, got = attempt(broken, "", "plain")
        if arrived and b"ok allowed" in got:
            return True
    return False


CASES = (
    *((f"{hook}:{how}", "tls") for hook in BEFORE_TLS for how in ("raise", "hang", "late")),
    *((f"{hook}:{how}", "plain") for hook in BEFORE_PLAIN for how in ("raise", "hang")),
    *((f"{hook}:raise", "h2") for hook in ("requestheaders", "server_connect", "egress_upstream_ready")),
    *((f"{point}:raise", "tls") for point in POINTS),
    *((f"{point}:hang", "tls") for point in MAY_HANG),
)


@pytest.mark.parametrize(("fault", "way"), CASES, ids=[f"{fault}-{way}" for fault, way in CASES])
def test_a_broken_part_lets_nothing_through(broken: Broken, fault: str, way: str) -> None:
    """With the fault no origin sees a byte of a request; without it, the request passes."""
    arrived, got = attempt(broken, fault, way)
    assert not arrived
    assert b"ok allowed" not in got
    assert mended(broken)


@pytest.mark.parametrize("hook", AFTER)
def test_a_hook_that_breaks_after_the_request_ends_only_that_request(broken: Broken, hook: str) -> None:
    """What is out is out; the proxy lives on, and the next request passes. A response is not passed on unjudged."""
    _, got = attempt(broken, f"{hook}:raise", "tls")
    if hook == "responseheaders":
        assert b"ok allowed" not in got
    assert mended(broken)


def test_a_policy_core_that_never_returns_lets_nothing_through(world: World) -> None:
    """A decision that blocks the whole process for ever passes nothing either."""
    script = Path(__file__).with_name("faulty_proxy.py")
    command = (sys.executable, str(script), "--break", "egress.gate.permit:is_secure:hang", "--")
    proxy = world.start(POLICY, command=command, config=CONFIG, env={"EGRESS_TEST_KEY": "k" * 20})
    try:
        assert proxy.address
        connections, _, _ = world.marks()
        with world.attacker(proxy) as client:
            client.send(b"GET http://allowed.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
            assert client.response(patience=2) == b""
        world.settle(connections)
        assert not [seen for seen in world.origins.since(connections) if seen.received]
    finally:
        proxy.kill()

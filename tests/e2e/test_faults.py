"""Faults in what all lanes share: an exception and a hang in every part that judges. No request arrives, in any lane.

Of what carries a request in the clear the origin sees no byte of it; of a tunnel it sees none at all.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from harness.broken import CLOSED, CONFIG, ENVIRONMENT, LANES, POLICY, SCRIPT, Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.world import World

_OPENED = ("tls", "plain", "h2")
_ALL = (*_OPENED, *CLOSED)

# Every part that judges, resolves, dials, records or puts a secret on, and the ways in that go through it.
POINTS = {
    "egress.gate.gate:permit": _ALL,
    "egress.gate.gate:dial": _ALL,
    "egress.gate.gate:Gate.admit": CLOSED,
    "egress.gate.gate:Gate.admit_head": _OPENED,
    "egress.gate.gate:Gate.dial": _ALL,
    "egress.gate.gate:Gate.judge_connect": ("tls", "h2", "closed", "raw"),
    "egress.gate.gate:Gate.ready": _OPENED,
    "egress.gate.resolver:Resolver.resolve": _ALL,
    "egress.server.names:HubNames.known": _ALL,
    "egress.server.names:HubNames.resolve": _ALL,
    "egress.server.rows:RowSink.offer": _ALL,
    "egress.gate.record:Recorder.record": _ALL,
    "egress.gate.record:Recorder.event": _ALL,
    "egress.credentials:CredentialStore.render": _ALL,
    "egress.policy:Policy.decide_name": ("tls", "h2", "closed", "raw"),
    "egress.policy:Policy.decide_request": _ALL,
    "egress.policy:Policy.decide_address": _ALL,
}
MAY_HANG = (
    "egress.gate.gate:permit",
    "egress.gate.gate:dial",
    "egress.gate.resolver:Resolver.resolve",
    "egress.server.names:HubNames.resolve",
    "egress.gate.record:Recorder.record",
)
# Where nothing can be recorded, nothing is; the request does not pass for that.
_NO_RECORD = {
    "egress.server.rows:RowSink.offer",
    "egress.gate.record:Recorder.record",
    "egress.gate.record:Recorder.event",
}
CASES = (
    *((f"{point}:raise", way) for point, ways in POINTS.items() for way in ways),
    *((f"{point}:hang", way) for point in MAY_HANG for way in ("tls", "closed")),
)


@pytest.fixture(scope="module", params=["auto", "mitm"])
def broken(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """One such proxy for all cases: each connection in its least lane, or all in the mitm lane."""
    made = Broken(world, tmp_path_factory.mktemp("broken"), POINTS, request.param)
    yield made
    made.set("")
    assert made.proxy.stop() == 0, made.proxy.log[-3000:]


@pytest.mark.parametrize(("fault", "way"), CASES, ids=[f"{fault}-{way}" for fault, way in CASES])
def test_a_broken_part_lets_nothing_through(broken: Broken, fault: str, way: str) -> None:
    """With the fault no origin sees a byte of a request, and a row says so; without it, the request passes."""
    tried = broken.attempt(fault, way)
    assert not tried.arrived
    assert b"ok allowed" not in tried.got
    assert broken.mended(way)
    if fault.rpartition(":")[0] not in _NO_RECORD:
        rows = broken.rows(tried)
        assert rows
        # In the mitm lane a tunnel whose client gives up while it is dialled just ends.
        left = broken.lane == "mitm" and fault == "egress.gate.gate:dial:hang" and way in CLOSED
        assert [row for row in rows if not (row["verdict"] == "deny" or row["error"] or left)] == []


@pytest.mark.parametrize("way", _ALL)
def test_without_a_fault_each_way_goes_through_its_lane(broken: Broken, way: str) -> None:
    """What the faults above are held against: the request passes, in one row, carried by the lane that is meant."""
    tried = broken.attempt("", way)
    assert tried.passed
    (row,) = broken.rows(tried)
    assert (row["verdict"], row["error"]) == ("allow", None)
    assert row["lane"] == ("mitm" if broken.lane == "mitm" else LANES[way])


@pytest.mark.parametrize("lane", ["http", "tunnel", "mitm"])
def test_a_policy_core_that_never_returns_lets_nothing_through(world: World, lane: str) -> None:
    """A decision that blocks the whole process for ever passes nothing either."""
    command = (sys.executable, str(SCRIPT), "--break", "egress.gate.permit:is_secure:hang", "--")
    proxy = world.start(POLICY, command=command, config=CONFIG, env=ENVIRONMENT, extra=("--lane", lane))
    try:
        assert proxy.address
        connections, _, _ = world.marks()
        with world.attacker(proxy) as client:
            if lane == "tunnel":
                client.connect("closed.allowed.test:443")
            else:
                client.send(b"GET http://allowed.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
            client.response(patience=2)
            assert b"ok allowed" not in client.answers.everything
        world.settle(connections)
        assert not [seen for seen in world.origins.since(connections) if seen.received]
    finally:
        proxy.kill()

"""Faults in the steps of the front and of its lanes `http` and `tunnel`: an exception and a hang in each.

What was not decided never reaches an origin, every connection that was begun leaves a row or an outcome, and the
process goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness.broken import CLOSED, Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.world import World

_PROXY = "egress.proxy."
_TUNNELS = ("tls", *CLOSED)

# What runs before a request's first byte leaves, and the ways in that go through it.
BEFORE = {
    "front:Front._begin": ("plain",),
    "front:Front._run": ("plain",),
    "front:Front._place": ("plain",),
    "opening:Opening.carry": ("plain",),
    "opening:Opening._first_head": ("plain", "tls"),
    "opening:Opening._connect": _TUNNELS,
    "opening:peek": _TUNNELS,
    "onward:Onward.towards": _TUNNELS,
    "onward:Onward._inside": ("tls", "closed"),
    "onward:Onward._hello": ("tls", "closed"),
    "onward:Onward._tls_inside": ("tls", "closed"),
    "onward:Onward._http_over_tls": ("tls",),
    "onward:Onward.give_away": ("h2",),
    "onward:Onward._tunnel": CLOSED,
    "onward:Onward._splice": CLOSED,
    "onward:carry": CLOSED,
    "opening:parse_request_head": _TUNNELS,
    "opening:name_connect": _TUNNELS,
    "first_bytes:parse_client_hello": ("tls", "closed"),
    "onward:hello_problem": ("tls", "closed"),
    "onward:pick_lane": ("tls", "closed"),
    "client_tls:ClientTls.known": ("tls",),
    "client_tls:ClientTls.wrap": ("tls",),
    "turns:Turns.turn": ("tls",),
    "endpoint:Endpoint.handshake": ("tls",),
    "http_lane:HttpLane.run": ("plain", "tls"),
    "http_lane:HttpLane._read_head": ("plain", "tls"),
    "http_lane:HttpLane._serve": ("plain", "tls"),
    "http_lane:parse_request_head": ("plain", "tls"),
    "http_lane:name_request": ("plain", "tls"),
    "http_lane:early_problem": ("plain", "tls"),
    "repeats:Repeats.learn": ("plain",),
    "repeats:Repeats.named": ("plain",),
    "http_exchange:key_of": ("plain",),
    "http_exchange:HttpExchange.admit": ("plain", "tls"),
    "http_exchange:HttpExchange.carry": ("plain", "tls"),
    "http_exchange:HttpExchange._ask": ("plain", "tls"),
    "http_exchange:HttpExchange._ask_on": ("plain", "tls"),
    "upstreams:UpstreamPool.peek": ("plain",),
    "upstreams:UpstreamPool.open": ("plain", "tls"),
    "upstreams:UpstreamPool._handshake": ("tls",),
    "upstream_tls:UpstreamTls.wrap": ("tls",),
    "heads:bodiless_head": ("plain", "tls"),
    "heads:request_head": ("post",),
    "upload:Upload.start": ("post",),
    "bodies:IncomingBody.here": ("post",),
}
# What waits for somebody, and may do so for ever. Anything else that hangs takes its process along, which
# `test_faults.py` has.
MAY_HANG = (
    "opening:Opening._first_head",
    "opening:Opening._connect",
    "onward:Onward._inside",
    "onward:Onward._hello",
    "onward:Onward._tls_inside",
    "onward:Onward._http_over_tls",
    "onward:Onward._tunnel",
    "turns:Turns.turn",
    "endpoint:Endpoint.handshake",
    "http_exchange:HttpExchange._ask",
    "upstreams:UpstreamPool.open",
    "upstreams:UpstreamPool._handshake",
    "upload:Upload.start",
)
# Here nobody knows yet who asks.
_UNKNOWN = ("front:Front._begin", "front:Front._run")

# What runs when a request, or part of it, is out.
AFTER = {
    "http_exchange:HttpExchange._read_answer": ("plain", "tls"),
    "http_exchange:parse_response_head": ("plain", "tls"),
    "http_exchange:response_framing": ("plain", "tls"),
    "http_exchange:HttpExchange._answer": ("plain", "tls"),
    "heads:response_head": ("plain", "tls"),
    "bodies:IncomingBody.next": ("post",),
}
_ALL = (*BEFORE, *AFTER, "upstreams:UpstreamPool.give", "upstreams:UpstreamPool.take")

CASES = (
    *((f"{point}:raise", way) for point, ways in BEFORE.items() for way in ways),
    *((f"{point}:hang", way) for point in MAY_HANG for way in BEFORE[point][-1:]),
)
LATE = (
    *((f"{point}:raise", way) for point, ways in AFTER.items() for way in ways),
    ("http_exchange:HttpExchange._read_answer:hang", "tls"),
    ("http_exchange:HttpExchange._answer:hang", "tls"),
    ("bodies:IncomingBody.next:hang", "post"),
)


@pytest.fixture(scope="module")
def broken(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """One such proxy for all cases."""
    made = Broken(world, tmp_path_factory.mktemp("broken"), [_PROXY + point for point in _ALL])
    yield made
    made.set("")
    assert made.proxy.stop() == 0, made.proxy.log[-3000:]


@pytest.mark.parametrize(("fault", "way"), CASES, ids=[f"{fault}-{way}" for fault, way in CASES])
def test_a_broken_step_lets_nothing_through(broken: Broken, fault: str, way: str) -> None:
    """With the fault no origin sees a byte of a request, and a row says that it failed; without it, it passes."""
    tried = broken.attempt(_PROXY + fault, way)
    assert not tried.arrived
    assert b"ok allowed" not in tried.got
    if not fault.startswith(_UNKNOWN):
        rows = broken.rows(tried)
        assert rows
        assert [row for row in rows if not (row["verdict"] == "deny" or row["error"])] == []
    assert broken.mended(way)


@pytest.mark.parametrize(("fault", "way"), LATE, ids=[f"{fault}-{way}" for fault, way in LATE])
def test_a_step_that_breaks_after_the_request_ends_only_that_request(broken: Broken, fault: str, way: str) -> None:
    """What is out was decided and has its row; its answer is not passed on, and the next request passes."""
    tried = broken.attempt(_PROXY + fault, way)
    assert b"ok allowed" not in tried.got
    (row,) = broken.rows(tried)
    assert row["verdict"] == "allow"
    assert row["error"]
    assert broken.mended(way)


@pytest.mark.parametrize("point", ["upstreams:UpstreamPool.give", "upstreams:UpstreamPool.take"])
def test_a_broken_pool_ends_only_its_request(broken: Broken, point: str) -> None:
    """Where connections cannot be kept or taken, the client's ends, which its row says; nothing is sent twice."""
    assert broken.mended("tls")
    tried = broken.attempt(f"{_PROXY}{point}:raise", "tls", kept=True)
    assert sum(data.count(b"GET ") for data in tried.arrived) == int(point.endswith("give"))
    (row,) = broken.rows(tried)
    assert (row["verdict"], row["error"]) == ("allow", "internal-error")
    assert broken.mended("tls")

"""Faults in the gate: whatever raises or hangs, in whatever mode, the origin gets nothing and no secret comes out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from rig.faults import fail, hang
from rig.modes import Mode, Site, carried, make_site
from rig.proxy import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins
    from rig.proxy import Proxy

    from egress.gate.gate import Asked, Gate
INSPECTED = (Mode.PLAIN, Mode.TLS1, Mode.TLS2)
# Which parts of the gate a mode asks; `credentials` renders for every request, if only nothing.
PARTS = {
    "decide_name": tuple(Mode)[1:],
    "decide_request": tuple(Mode),
    "decide_address": tuple(Mode),
    "resolve": tuple(Mode),
    "render": tuple(Mode),
    "own": tuple(Mode),
    "offer": tuple(Mode),
}
PART_CASES = [(mode, part) for part, modes in PARTS.items() for mode in modes]


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Iterator[Site]:
    """A proxy and its origin; afterwards nobody may have been told the secret but the origin."""
    return make_site(start, origin)


@carried("mode, part", *PART_CASES)
def test_fail_closed_in_every_part_of_the_gate(
    mode: Mode, part: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in policy, resolver, credentials or audit: nothing is dialled, and the client is told."""
    break_part(site, part, monkeypatch)
    with site.serving(mode):
        reply = site.exchange(mode)
    assert reply.status in {0, 500, 503}
    assert reply.reason in {None, "internal-error", "audit-unavailable"}
    assert site.origin.connections == []
    assert SECRET.encode() not in reply.whole


@carried("mode", *zip(Mode, strict=True))
def test_fail_closed_when_the_resolver_hangs(mode: Mode, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that never answers ends in a denial within the time that judging may take."""
    monkeypatch.setattr(type(site.proxy.gate.resolver), "known", lambda *_: None)
    monkeypatch.setattr(type(site.proxy.gate.resolver), "resolve", hang)
    object.__setattr__(site.proxy.gate.limits, "judge_seconds", 0.2)
    with site.serving(mode):
        reply = site.exchange(mode)
    assert (reply.status, reply.reason) in {(500, "internal-error"), (0, None)}
    assert site.origin.connections == []
    assert [row.reason for row in site.proxy.ledger.wait(1)] == ["internal-error"]


@carried("mode", *zip(Mode, strict=True))
def test_fail_closed_when_the_audit_takes_nothing(mode: Mode, site: Site) -> None:
    """An audit that is full or broken: the traffic waits, then it is denied, and nothing was dialled."""
    site.proxy.ledger.accepts = lambda _: False
    with site.serving(mode):
        reply = site.exchange(mode)
    assert (reply.status, reply.reason) in {(503, "audit-unavailable"), (0, None)}
    assert site.origin.connections == []


@carried("mode", *zip(INSPECTED, strict=True))
def test_audit_unavailable_is_what_the_client_reads(mode: Mode, site: Site) -> None:
    """Where there is a request to answer, the answer says why."""
    site.proxy.ledger.accepts = lambda _: False
    with site.serving(mode):
        assert site.exchange(mode).reason == "audit-unavailable"


@carried("mode", *zip(Mode, strict=True))
def test_judging_that_waits_goes_on_where_it_was(mode: Mode, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging that waits for a resolver or the audit ends in the same exchange."""
    admit = type(site.proxy.gate).admit_head

    async def later(gate: Gate, asked: Asked) -> object:
        await asyncio.sleep(0.02)
        return await admit(gate, asked)

    monkeypatch.setattr(type(site.proxy.gate), "admit_head", later)
    with site.serving(mode):
        assert site.exchange(mode).status == 200


def break_part(site: Site, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one part of the gate raise."""
    gate = site.proxy.gate
    match part:
        case "decide_name" | "decide_request" | "decide_address":
            monkeypatch.setattr(type(gate.generation.policy), part, fail)
        case "resolve":
            monkeypatch.setattr(type(gate.resolver), "known", lambda *_: None)
            monkeypatch.setattr(type(gate.resolver), part, fail)
        case "render":
            monkeypatch.setattr(type(gate.generation.credentials), part, fail)
        case "own":
            monkeypatch.setattr(type(gate.own), "includes", fail)
        case _:
            monkeypatch.setattr(site.proxy.ledger, part, fail)

"""Whatever raises or hangs inside the gate ends in a denial that is a value, with a row, and no grant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import pytest
from workbench import Bench, request

from egress.gate.denial import Denial
from egress.policy import Reason

if TYPE_CHECKING:
    from egress.gate.gate import Gate

type Make = Callable[..., Bench]

POLICY = "rules: [{allow: api.test}, {allow: tunnel.test, tls: tunnel}]"
PINS = {"api.test": "93.184.215.14", "tunnel.test": "93.184.215.14"}


def fail(*_: object, **__: object) -> NoReturn:
    """Raise, whatever was asked."""
    raise RuntimeError("injected")


async def hang(*_: object, **__: object) -> NoReturn:
    """Never come back."""
    await asyncio.Event().wait()
    raise AssertionError


def break_part(gate: Gate, part: str, monkeypatch: pytest.MonkeyPatch, how: Callable[..., object] = fail) -> None:
    """Put `how` in the place of one part."""
    owner = {
        "decide_name": type(gate.generation.policy),
        "decide_request": type(gate.generation.policy),
        "decide_address": type(gate.generation.policy),
        "render": type(gate.generation.credentials),
        "known": type(gate.resolver),
        "resolve": type(gate.resolver),
        "includes": type(gate.own),
        "event": type(gate.recorder),
        "record": type(gate.recorder),
        "offer": type(gate.recorder.audit),
    }[part]
    if part == "resolve":  # asked only for a name that is not remembered
        monkeypatch.setattr(owner, "known", lambda *_: None)
    monkeypatch.setattr(owner, part, how)


RAISING = ["decide_request", "decide_address", "render", "known", "resolve", "includes", "event", "record", "offer"]


@pytest.mark.parametrize("part", RAISING)
def test_fail_closed_on_an_exception(bench: Make, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a request's way, one at a time."""
    made = bench(POLICY, PINS)
    break_part(made.gate, part, monkeypatch)
    outcome = asyncio.run(made.admit(request("api.test")))
    assert isinstance(outcome, Denial)
    assert (outcome.reason, outcome.status) == (Reason.INTERNAL_ERROR, 500)
    assert len(made.book) == 0
    assert made.gate.open == {}
    assert b"injected" not in outcome.http1()
    if part not in {"event", "record", "offer"}:
        assert [row.reason for row in made.ledger.decisions] == ["internal-error"]


@pytest.mark.parametrize("part", ["resolve", "record"])
def test_fail_closed_on_a_hang(bench: Make, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for ever is ended by the gate's own clock."""
    made = bench(POLICY, PINS)
    made.gate.limits = type(made.gate.limits)(connect_seconds=0.1, judge_seconds=0.1)
    break_part(made.gate, part, monkeypatch, hang)

    async def ask() -> object:
        async with asyncio.timeout(3):
            return await made.admit(request("api.test"))

    outcome = asyncio.run(ask())
    assert isinstance(outcome, Denial)
    assert outcome.reason is Reason.INTERNAL_ERROR
    assert len(made.book) == 0
    assert made.gate.open == {}


@pytest.mark.parametrize(
    "part", ["decide_name", "decide_request", "decide_address", "render", "known", "resolve", "includes"]
)
def test_fail_closed_at_connect(bench: Make, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CONNECT whose judging breaks is refused too."""
    made = bench(POLICY, PINS)
    break_part(made.gate, part, monkeypatch)
    outcome = asyncio.run(made.connect("tunnel.test"))
    assert isinstance(outcome, Denial)
    assert outcome.reason is Reason.INTERNAL_ERROR
    assert [row.reason for row in made.ledger.decisions] == ["internal-error"]


def test_an_audit_that_raises_while_a_refusal_is_recorded_refuses_all_the_same(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A denied request stays denied when its record fails."""
    made = bench(POLICY, PINS)
    break_part(made.gate, "offer", monkeypatch)
    outcome = asyncio.run(made.admit(request("evil.test")))
    assert isinstance(outcome, Denial)

"""Rules that expire: what they let pass is cut at their moment, without a reload; the rest goes on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from workbench import CLIENT, Bench, request

from egress.audit import NoteEvent
from egress.config import clock
from egress.gate.denial import Denial
from egress.gate.expiry import ExpiryWatch
from egress.gate.standing import Standing

if TYPE_CHECKING:
    import pytest

    from egress.audit import DecisionEvent
    from egress.gate.exchange import Exchange


type Make = Callable[..., Bench]

PINS = {"a.test": "93.184.215.14", "b.test": "93.184.215.15"}


def soon(seconds: float) -> str:
    """A moment as a policy writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def until_finished(exchange: Exchange) -> None:
    """Wait for its end, or fail."""
    async with asyncio.timeout(10):
        while not exchange.finished:  # noqa: ASYNC110 -- what is watched has no event
            await asyncio.sleep(0.01)


def test_what_an_expired_rule_let_pass_is_cut(bench: Make) -> None:
    """With its own code as the outcome; the next request is denied for it."""
    made = bench(f"rules: [{{allow: a.test, until: '{soon(0.3)}'}}, {{allow: b.test}}]", PINS)

    async def run() -> None:
        kept = await made.allowed(request("b.test"))
        gone = await made.allowed(request("a.test"))
        await until_finished(gone)
        assert (kept.finished, made.cuts) == (False, ["rule-expired"])
        (row,) = (row for row in made.ledger.decisions if row.id == gone.id)
        assert (made.ledger.outcome(row).error or "").startswith("rule-expired: ")
        (note,) = (event for event in made.ledger.events if isinstance(event, NoteEvent))
        assert (note.kind, note.detail) == ("cut", "1 connection cut: the rule that allowed it has expired")
        denied = await made.admit(request("a.test"))
        assert isinstance(denied, Denial)
        assert denied.reason == "rule-expired"

    asyncio.run(run())


def test_what_stands_idle_ends_for_the_rule_that_let_it_in(bench: Make) -> None:
    """Its row does not tell of a reload that never was."""
    made = bench(f"rules: [{{allow: a.test, until: '{soon(0.3)}'}}]", PINS)
    idle: list[str] = []
    made.gate.standing = lambda: [Standing(CLIENT, request("a.test", method=None), idle.append)]

    async def run() -> None:
        await until_finished(await made.allowed(request("a.test")))

    asyncio.run(run())
    row = made.ledger.decisions[-1]
    assert (row.verdict, row.reason, idle) == ("deny", "rule-expired", ["rule-expired"])
    assert row.detail == made.ledger.outcome(row).error == "rule-expired: the rule that allowed it has expired"


def test_the_next_moment_is_met_where_cutting_failed() -> None:
    """INVARIANT fail-closed: what expires later is not let go on by a fault in between."""
    came: list[None] = []

    def fail() -> bool:
        came.append(None)
        raise ZeroDivisionError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        now = time.time()
        watch = ExpiryWatch((now + 0.05, now + 0.1), fail)
        watch.look(now)
        async with asyncio.timeout(10):
            while len(came) < 2:  # noqa: ASYNC110 -- what is watched has no event
                await asyncio.sleep(0.01)
        watch.stop()

    asyncio.run(run())


class Clock:
    """The time of day, as far as this process is told; it stands still until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(clock, "_latest", [0.0])
        monkeypatch.setattr(clock.time, "time", lambda: self.now)

    def in_a_moment(self) -> str:
        """A moment that comes when it is set."""
        return datetime.fromtimestamp(self.now + 0.05, UTC).isoformat()


def test_a_moment_that_comes_while_is_cut_is_met(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers may be early: what was looked at just before the moment is looked at again."""
    told = Clock(monkeypatch)
    made = bench(f"rules: [{{allow: a.test, until: '{told.in_a_moment()}'}}]", PINS)
    cut = made.gate.cut_denied

    def then_it_comes(*words: str) -> int:
        count = cut(*words)
        told.now += 1
        return count

    async def run() -> None:
        monkeypatch.setattr(type(made.gate), "cut_denied", lambda _, *words: then_it_comes(*words))
        await until_finished(await made.allowed(request("a.test")))
        assert made.cuts == ["rule-expired"]

    asyncio.run(run())


def test_a_moment_that_comes_while_a_request_is_judged_is_met(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allowed just before it, and open just after."""
    told = Clock(monkeypatch)
    made = bench(f"rules: [{{allow: a.test, until: '{told.in_a_moment()}'}}]", PINS)
    record = made.gate.recorder.record

    async def then_it_comes(event: DecisionEvent) -> bool:
        told.now += 1
        return await record(event)

    async def run() -> None:
        monkeypatch.setattr(type(made.gate.recorder), "record", lambda _, event: then_it_comes(event))
        await until_finished(await made.allowed(request("a.test")))
        assert made.cuts == ["rule-expired"]

    asyncio.run(run())


def test_each_moment_is_met(bench: Make) -> None:
    """Two rules, one after the other."""
    made = bench(f"rules: [{{allow: a.test, until: '{soon(0.3)}'}}, {{allow: b.test, until: '{soon(0.6)}'}}]", PINS)

    async def run() -> None:
        first = await made.allowed(request("a.test"))
        second = await made.allowed(request("b.test"))
        await until_finished(first)
        assert not second.finished
        await until_finished(second)

    asyncio.run(run())


def test_a_reload_that_gives_more_time_is_followed(bench: Make) -> None:
    """The moment of the old generation is forgotten, that of the new one counts."""
    made = bench(f"rules: [{{allow: a.test, until: '{soon(0.3)}'}}]", PINS)

    async def run() -> None:
        exchange = await made.allowed(request("a.test"))
        made.gate.swap(made.generation(f"rules: [{{allow: a.test, until: '{soon(0.9)}'}}]"))
        await asyncio.sleep(0.5)
        assert not exchange.finished
        await until_finished(exchange)

    asyncio.run(run())


def test_labels_stand_in_the_row(bench: Make) -> None:
    """What the rule annotates, of an allow and of a denial; nothing where no rule spoke."""
    made = bench("rules: [{allow: a.test, annotate: {ticket: OPS-1}}, {deny: b.test, annotate: {why: 'no é'}}]", PINS)

    async def run() -> None:
        await made.allowed(request("a.test"))
        await made.admit(request("b.test"))
        await made.admit(request("c.test"))

    asyncio.run(run())
    labels = {row.host: row.labels for row in made.ledger.decisions}
    assert json.loads(labels["a.test"] or "") == {"ticket": "OPS-1"}
    assert json.loads(labels["b.test"] or "") == {"why": "no é"}
    assert labels["c.test"] is None

"""Reload: one generation from first step to last, and only what the new one denies is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from workbench import CLIENT, Bench, request

from egress.gate.denial import Denial
from egress.gate.standing import Standing
from egress.policy import Protocol, Reason

type Make = Callable[..., Bench]

PINS = {"a.test": "93.184.215.14", "b.test": "93.184.215.15", "c.test": "10.0.0.1"}
BEFORE = """
rules:
  - {allow: [a.test, b.test]}
  - {allow: c.test, addresses: [10.0.0.0/8]}
  - {allow: "a.test:5432", protocol: tcp}
"""


def test_reload_is_atomic(bench: Make) -> None:
    """What the new policy denies is cut with its outcome; the rest goes on; the next request meets the new policy."""
    made = bench(BEFORE, PINS)

    async def run() -> None:
        kept = await made.allowed(request("a.test"))
        gone = await made.allowed(request("b.test"))
        assert made.gate.swap(made.generation("rules: [{allow: a.test}]")) == 1
        assert (kept.finished, gone.finished) == (False, True)
        assert made.cuts == ["policy-reload"]
        assert list(made.gate.open) == [kept.id]
        outcome = made.ledger.outcome(next(row for row in made.ledger.decisions if row.id == gone.id))
        assert (outcome.error or "").startswith("policy-reload")
        assert isinstance(await made.admit(request("b.test")), Denial)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("after", "cut"),
    [
        (BEFORE, set()),
        ("rules: []", {"a", "b", "c", "tcp"}),
        ("rules: [{allow: [a.test, b.test, c.test]}, {allow: 'a.test:5432', protocol: tcp}]", {"c"}),
        (BEFORE.replace("rules:", "rules:\n  - deny: 93.184.215.15"), {"b"}),
        (BEFORE.replace("rules:", "rules:\n  - {deny: a.test, methods: [DELETE]}"), {"tcp"}),
        (BEFORE.replace("rules:", "rules:\n  - {deny: a.test, paths: [/]}"), {"a", "tcp"}),
        (BEFORE.replace("b.test]}", "b.test], methods: [POST]}"), {"a", "b"}),
        ("default: allow\nrules: [{deny: b.test}]", {"b", "c"}),
    ],
)
def test_swap_cuts_exactly_what_the_new_policy_denies(bench: Make, after: str, cut: set[str]) -> None:
    """By request, and by the addresses that were judged."""
    made = bench(BEFORE, PINS)

    async def run() -> set[str]:
        open_ones = {
            "a": await made.allowed(request("a.test")),
            "b": await made.allowed(request("b.test")),
            "c": await made.allowed(request("c.test")),
            "tcp": await made.allowed(request("a.test", 5432, Protocol.TCP, None)),
        }
        count = made.gate.swap(made.generation(after))
        ended = {name for name, exchange in open_ones.items() if exchange.finished}
        assert count == len(ended) == len(made.cuts)
        return ended

    assert asyncio.run(run()) == cut


def test_a_connection_that_cannot_be_cut_does_not_keep_the_others(bench: Make) -> None:
    """The new policy is in force and the rest is cut, whatever one connection's end does."""
    made = bench(BEFORE, PINS)

    async def run() -> None:
        first = await made.allowed(request("a.test"))
        second = await made.allowed(request("b.test"))

        def broken(_: str) -> None:
            raise RuntimeError("injected")

        first.cut = broken
        made.gate.swap(made.generation("rules: []"))
        assert (first.finished, second.finished) == (True, True)
        assert made.cuts == ["policy-reload"]

    asyncio.run(run())


def test_what_cannot_be_judged_again_is_cut(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail closed: an exception while a reload judges an open connection ends that connection."""
    made = bench(BEFORE, PINS)

    async def run() -> None:
        exchange = await made.allowed(request("a.test"))
        generation = made.generation(BEFORE)

        def broken(*_: object) -> None:
            raise RuntimeError("injected")

        monkeypatch.setattr(type(generation.policy), "decide_address", broken)
        assert made.gate.swap(generation) == 1
        assert exchange.finished

    asyncio.run(run())


def test_a_request_that_a_reload_overtakes_is_not_let_through(bench: Make) -> None:
    """Judged by the old policy while the new one came into force: it is refused, not admitted unseen by the swap."""
    made = bench(BEFORE, PINS)

    def swap_now(_: object) -> bool:
        made.ledger.accepts = lambda _: True
        made.gate.swap(made.generation("rules: []"))
        return False

    made.ledger.accepts = swap_now

    async def run() -> None:
        outcome = await made.admit(request("a.test"))
        assert isinstance(outcome, Denial) or outcome.finished
        if isinstance(outcome, Denial):
            assert outcome.reason is not Reason.RULE_ALLOW
        assert made.gate.open == {}
        assert len(made.book) == 0

    asyncio.run(run())


def test_the_rows_after_a_swap_carry_the_new_digest(bench: Make) -> None:
    """Each decision names the policy that made it."""
    made = bench(BEFORE, PINS)

    async def run() -> None:
        await made.allowed(request("a.test"))
        made.gate.swap(made.generation("rules: [{allow: a.test}]"))
        await made.allowed(request("a.test"))
        first, second = made.ledger.decisions
        assert first.policy_hash != second.policy_hash
        assert second.policy_hash == made.gate.generation.policy.digest

    asyncio.run(run())


def standing(made: Bench, *names: str) -> None:
    """Connections that stand idle towards these hosts; `cuts` gets the host of each that is cut."""
    made.gate.standing = lambda: [
        Standing(CLIENT, request(name, method=None), lambda why, name=name: made.cuts.append(f"{name} {why}"))
        for name in names
    ]


@pytest.mark.parametrize(
    ("after", "cut"),
    [
        (BEFORE, []),
        ("rules: [{allow: a.test}]", ["b.test policy-reload"]),
        ("rules: []", ["a.test policy-reload", "b.test policy-reload"]),
        # Something may still come on it: the next request decides.
        ("rules: [{allow: a.test, methods: [POST]}, {allow: b.test, paths: [/only]}]", []),
        ("rules: [{deny: a.test}, {allow: [a.test, b.test]}]", ["a.test policy-reload"]),
        ("rules: [{ask: a.test}, {allow: b.test}]", ["a.test policy-reload"]),
    ],
)
def test_what_stands_idle_is_cut_where_its_connect_would_be_refused(bench: Make, after: str, cut: list[str]) -> None:
    """With a row that has the new policy's digest and says why; what would be let in is not touched."""
    made = bench(BEFORE, PINS)
    standing(made, "a.test", "b.test")
    generation = made.generation(after)
    assert made.gate.swap(generation) == len(cut)
    assert made.cuts == cut
    assert [f"{row.host} policy-reload" for row in made.ledger.decisions] == cut
    for row in made.ledger.decisions:
        assert row.verdict == ("ask" if "ask" in after else "deny")
        assert row.policy_hash == generation.policy.digest
        assert (made.ledger.outcome(row).error or "").startswith("policy-reload")


def test_what_stands_idle_is_cut_whatever_fails(bench: Make) -> None:
    """The audit takes no row, or an end fails: the others end all the same."""
    made = bench(BEFORE, PINS)
    ended: list[str] = []

    def fail(_: str) -> None:
        raise ZeroDivisionError

    made.ledger.accepts = lambda _: False
    made.gate.standing = lambda: [
        Standing(CLIENT, request("a.test", method=None), fail),
        Standing(CLIENT, request("b.test", method=None), ended.append),
    ]
    assert made.gate.swap(made.generation("rules: []")) == 2
    assert ended == ["policy-reload"]

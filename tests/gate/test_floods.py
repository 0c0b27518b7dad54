"""Floods of denials: rows at first, then rows with a count, and the counts add up to what was denied."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from egress.audit import DecisionEvent
from egress.gate import floods as floods_module
from egress.gate.denial import Denial
from egress.gate.floods import Floods
from egress.policy import Host, Protocol, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pytest
    from workbench import Bench


class Book:
    """Takes rows while it is told to, with a clock of its own."""

    def __init__(self, rows: int) -> None:
        self.now = 0.0
        self.takes = True
        self.taken: list[DecisionEvent] = []
        self.floods = Floods(rows, self._offer, lambda: self.now)

    def deny(self, host: str | None, sandbox: str = "a", reason: str = "host-not-allowed", policy: str = "p1") -> None:
        """A denial, recorded one way or the other."""
        event = DecisionEvent(
            id=f"{host}", time_us=1, sandbox=sandbox, client="c", verdict="deny", reason=reason, host=host, path="/p"
        )
        event.policy_hash = policy
        if not self.floods.counts(event):
            self.taken.append(event)

    def _offer(self, event: DecisionEvent) -> bool:
        if self.takes:
            self.taken.append(event)
        return self.takes


def run(work: Coroutine[None, None, None]) -> None:
    """On a loop of its own."""
    asyncio.run(work)


def test_a_count_never_speaks_of_two_policies() -> None:
    """What a reload denies has rows of its own, from the first on: a row names the policy that it was denied by."""

    async def play() -> None:
        book = Book(2)
        for policy in ("old", "old", "old", "new", "new", "new"):
            book.deny("x.test", policy=policy)
        book.floods.close()
        assert [(event.policy_hash, event.count) for event in book.taken] == [
            *(("old", 1), ("old", 1), ("new", 1), ("new", 1)),
            *(("old", 1), ("new", 1)),
        ]

    run(play())


def test_the_first_have_a_row_each_and_the_rest_one_row_with_their_count() -> None:
    """What was first of the rest is what the row tells of."""

    async def play() -> None:
        book = Book(3)
        for _ in range(10):
            book.deny("x.test")
        assert [event.count for event in book.taken] == [1, 1, 1]
        book.floods.close()
        assert [event.count for event in book.taken] == [1, 1, 1, 7]
        assert (book.taken[-1].host, book.taken[-1].path) == ("x.test", "/p")

    run(play())


def test_only_what_is_alike_shares_a_budget_and_a_row() -> None:
    """Another host, reason or sandbox has its own."""

    async def play() -> None:
        book = Book(1)
        for host, sandbox, reason in (("x", "a", "r"), ("y", "a", "r"), ("x", "b", "r"), ("x", "a", "s")):
            for _ in range(4):
                book.deny(host, sandbox, reason)
        book.floods.close()
        assert sorted(event.count for event in book.taken) == [1] * 4 + [3] * 4

    run(play())


def test_a_minute_later_there_are_rows_again() -> None:
    """The budget is for a minute."""

    async def play() -> None:
        book = Book(2)
        for _ in range(3):
            book.deny("x.test")
        book.now = 60.0
        book.deny("x.test")
        assert len(book.taken) == 3
        book.floods.close()

    run(play())


def test_counts_are_recorded_by_themselves_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody closing anything."""
    monkeypatch.setattr(floods_module, "_FLUSH_SECONDS", 0.01)

    async def play() -> None:
        book = Book(1)
        book.deny("x.test")
        book.deny("x.test")
        async with asyncio.timeout(5):
            while len(book.taken) < 2:  # noqa: ASYNC110 - a timer of its own
                await asyncio.sleep(0.005)
        assert [event.count for event in book.taken] == [1, 1]

    run(play())


def test_a_count_that_is_not_taken_is_kept_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is offered again until there is room."""
    monkeypatch.setattr(floods_module, "_FLUSH_SECONDS", 0.01)

    async def play() -> None:
        book = Book(1)
        book.takes = False
        for _ in range(3):
            book.deny("x.test")
        await asyncio.sleep(0.05)
        book.deny("x.test")
        book.takes = True
        async with asyncio.timeout(5):
            while len(book.taken) < 2:  # noqa: ASYNC110 - a timer of its own
                await asyncio.sleep(0.005)
        assert [event.count for event in book.taken] == [1, 3]

    run(play())


def test_ever_new_hosts_fill_neither_the_record_nor_the_memory() -> None:
    """Beyond ten budgets of a sandbox its hosts share rows, and beyond a hundred hosts one row."""

    async def play() -> None:
        book = Book(5)
        for number in range(5000):
            book.deny(f"h{number}.test")
        assert len(book.taken) == 50
        assert len(book.floods._counted) <= 101
        assert len(book.floods._alike) <= 51
        book.floods.close()
        assert len(book.taken) == 151
        assert sum(event.count for event in book.taken) == 5000
        assert [event.host for event in book.taken if event.count > 1] == [None]

    run(play())


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", None]), st.booleans(), st.integers(0, 40))),
    st.integers(1, 3),
)
def test_the_counts_of_all_rows_add_up(steps: list[tuple[str, str | None, bool, int]], rows: int) -> None:
    """Whatever was denied, whenever it was taken: nothing is dropped silently."""

    async def play() -> None:
        book = Book(rows)
        for sandbox, host, takes, seconds in steps:
            book.takes = takes
            book.now += seconds
            book.deny(host, sandbox)
            book.floods.flush()
        book.takes = True
        book.floods.close()
        for name in "ab":
            assert sum(event.count for event in book.taken if event.sandbox == name) == [one[0] for one in steps].count(
                name
            )

    run(play())


def test_the_gate_counts_denials_and_never_what_it_lets_pass(bench: Callable[..., Bench]) -> None:
    """Every denial is answered as before; every request that passes has its row, however many there are."""
    made = bench("rules: [{allow: a.test}]", {"a.test": "93.184.216.34"})
    object.__setattr__(made.gate.recorder, "floods", Floods(2, made.ledger.offer))

    def asked(name: str) -> Request:
        return Request("default", Protocol.HTTPS, Host(name), 443, "GET", "/")

    async def play() -> None:
        for _ in range(7):
            assert isinstance(await made.admit(asked("b.test")), Denial)
            (await made.allowed(asked("a.test"))).finish()
        assert made.gate.recorder.floods is not None
        made.gate.recorder.floods.close()

    run(play())
    counts = [(event.verdict, event.count) for event in made.ledger.decisions]
    assert sorted(counts) == [("allow", 1)] * 7 + [("deny", 1), ("deny", 1), ("deny", 5)]
    assert len(made.ledger.outcomes) == 9, "what has no row of its own has no outcome either"

"""Deadlines by one timer: late ones are told, moved ones are not, and one that fails stops nobody's clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.proxy import clock
from egress.proxy.clock import Clock

if TYPE_CHECKING:
    import pytest


@dataclass(eq=False)
class Timed:
    """Something with a deadline; `fails` when it is told."""

    deadline: float
    fails: bool = False
    told: list[str] = field(default_factory=list)

    def late(self) -> None:
        """Note it, and wait no more."""
        self.told.append("late")
        self.deadline = float("inf")
        if self.fails:
            raise LookupError("broken on purpose")


def run(*all_of_them: Timed, moves: Timed | None = None, forget: Timed | None = None) -> Clock:
    """Watch for a few periods."""

    async def main() -> Clock:
        watching = Clock(asyncio.get_running_loop())
        for timed in all_of_them:
            timed.deadline += watching.now()
            watching.watch(timed)
        if forget is not None:
            watching.forget(forget)
        if moves is not None:
            moves.deadline = float("inf")
        await asyncio.sleep(clock.PERIOD * 4)
        return watching

    return asyncio.run(main())


def test_only_a_deadline_that_passed_is_told() -> None:
    """Once, and whoever moved his in time hears nothing."""
    passed, later, moved, forgotten = Timed(0.01), Timed(60), Timed(0.05), Timed(0.01)
    run(passed, later, moved, forgotten, moves=moved, forget=forgotten)
    assert [timed.told for timed in (passed, later, moved, forgotten)] == [["late"], [], [], []]


def test_one_that_fails_does_not_stop_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    """INVARIANT bounded: the deadlines of all others still hold."""
    broken = Timed(0.01, fails=True)
    slow = Timed(clock.PERIOD * 2)
    run(broken, slow)
    assert slow.told == ["late"]
    assert "a deadline could not be kept" in caplog.text

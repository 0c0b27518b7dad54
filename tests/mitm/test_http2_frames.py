"""HTTP/2 frames that are cheap to send: an empty one ends nothing, and a flood of them ends the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from egress.gate.body import STRAIGHT, count_down, count_up
from egress.mitm.answers import counting
from egress.mitm.http2 import BUDGET, REFILL, Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.body import Buffer
    from egress.gate.exchange import Exchange


class Counted:
    """As much of an exchange as counting needs."""

    bytes_up = 0
    bytes_down = 0
    upward = downward = STRAIGHT


@pytest.mark.parametrize("direction", [count_up, count_down])
def test_an_empty_chunk_goes_no_further(direction: Callable[[Exchange, Buffer], Buffer]) -> None:
    """Written as a chunk of HTTP/1.1 it would end the body, and what follows would be another request."""
    counted = cast("Exchange", Counted())
    pass_on = counting(counted, direction, STRAIGHT.end)
    assert list(pass_on(b"")) == []
    assert list(pass_on(b"abc")) == [b"abc"]
    assert counted.bytes_up + counted.bytes_down == 3
    assert list(counting(counted, direction, lambda: b"held back")(b"")) == [b"held back"]


def test_a_budget_lasts_and_comes_back() -> None:
    """All of it at once, then no more than is refilled."""
    budget = Budget()
    assert all(budget.spend(10, 100.0) for _ in range(BUDGET // 10))
    assert not budget.spend(10, 100.0)
    assert budget.spend(REFILL // 2, 101.0)
    assert not budget.spend(REFILL, 101.0)


def test_a_budget_never_grows_past_its_size() -> None:
    """An idle connection saves nothing up."""
    budget = Budget()
    assert budget.spend(1, 1.0)
    assert not budget.spend(BUDGET + 1, 1_000_000.0)

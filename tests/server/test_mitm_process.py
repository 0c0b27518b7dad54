"""The mitm process: a place for what is handed over to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from egress.server.mitm_process import _MOVING, _moved_in

if TYPE_CHECKING:
    from egress.server.leases import LeasedSlots


@dataclass
class Answers:
    """Slots of which the hub grants one or not, each time that it is asked."""

    answers: list[bool]
    stock: bool = False
    asked: int = field(default=0)

    def try_take(self) -> bool | None:
        """From the stock."""
        return self.stock or None

    async def take(self) -> bool:
        """From the hub."""
        self.asked += 1
        return self.answers[self.asked - 1]


@pytest.mark.parametrize(
    ("slots", "place", "asked"),
    [
        (Answers([], stock=True), True, 0),
        (Answers([True]), True, 1),
        (Answers([False, True]), True, 2),
        (Answers([False, False, False, True]), True, 4),
        (Answers([False] * (len(_MOVING) + 1)), False, len(_MOVING) + 1),
    ],
)
def test_a_place_that_is_given_back_a_moment_later_is_asked_for_again(slots: Answers, place: bool, asked: int) -> None:  # noqa: FBT001
    """At the limit, the worker's word may reach the hub after ours; and nobody asks for ever."""
    assert asyncio.run(_moved_in(cast("LeasedSlots", slots))) is place
    assert slots.asked == asked

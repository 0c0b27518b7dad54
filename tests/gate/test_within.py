"""A time limit that costs nothing where nothing waits, and holds where something does."""

from __future__ import annotations

import asyncio

import pytest

from egress.gate.within import within


async def add(first: int, second: int, waits: int) -> int:
    """A sum, after so many waits."""
    for _ in range(waits):
        await asyncio.sleep(0)
    return first + second


@pytest.mark.parametrize("waits", [0, 1, 5])
def test_the_result_is_the_coroutines_own(waits: int) -> None:
    """Whether it waits or not."""
    assert asyncio.run(within(5, add(1, 2, waits))) == 3


@pytest.mark.parametrize("waits", [0, 1, 5])
def test_an_exception_comes_out_as_it_was_raised(waits: int) -> None:
    """Before and after a wait."""

    async def fail() -> None:
        await add(0, 0, waits)
        raise LookupError("as raised")

    with pytest.raises(LookupError, match="as raised"):
        asyncio.run(within(5, fail()))


@pytest.mark.parametrize("waits", [0, 3])
def test_what_waits_too_long_is_ended(waits: int) -> None:
    """The coroutine sees the cancellation and can clean up; the caller sees a timeout."""
    ended: list[str] = []

    async def hang() -> None:
        try:
            await add(0, 0, waits)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        asyncio.run(within(0.05, hang()))
    assert ended == ["cancelled"]


def test_a_cancellation_of_the_caller_reaches_the_coroutine() -> None:
    """As with a plain await."""
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned")

    async def main() -> None:
        task = asyncio.create_task(within(5, hang()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == ["cleaned"]


def test_a_coroutine_that_survives_an_exception_goes_on() -> None:
    """What is thrown in at a wait may be caught there."""

    async def stubborn() -> str:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, LookupError("no"))
        try:
            await future
        except LookupError:
            await asyncio.sleep(0)
            return "went on"
        return "not raised"

    assert asyncio.run(within(5, stubborn())) == "went on"

"""A time limit that costs nothing where nothing waits.

Most requests are judged without any waiting: policy in memory, name in the cache, room in the audit's queue. A timer
for each would cost more than the judging. So a coroutine runs at once up to its first wait, and only what is left of
it gets a timer.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


async def within[T](seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result; `TimeoutError` if its waits take longer than `seconds` together."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    async with asyncio.timeout(seconds):
        return await _rest(coroutine, waits_for)


@types.coroutine
def _rest[T](coroutine: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that waits for `waits_for` already; a cancellation or a timeout is thrown into it."""
    while True:
        problem: BaseException | None = None
        sent = None
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - handed on to the coroutine that waits
            problem = error
        try:
            waits_for = coroutine.send(sent) if problem is None else coroutine.throw(problem)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

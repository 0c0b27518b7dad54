"""Who waits for rows to be in the database, and up to which row: futures of event loops, settled from any thread.

Not thread-safe by itself, but for the settling: the writer's lock guards it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Commits:
    """Those who wait, in the order of the numbers that they wait for, which never go back."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    def expect(self, number: int) -> asyncio.Future[None]:
        """A future of the running loop, which is done once `reached` is called with the number or a later one."""
        import asyncio  # noqa: PLC0415 -- who only reads the record is spared the loading of it

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append((number, loop, future))
        return future

    def reached(self, number: int) -> None:
        """All up to this number is recorded."""
        while self._waiting and self._waiting[0][0] <= number:
            _, loop, future = self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future)


async def in_time(future: asyncio.Future[None], seconds: float) -> bool:
    """Wait for what `expect` gave; whether it was done in time."""
    import asyncio  # noqa: PLC0415 -- as above

    try:
        async with asyncio.timeout(seconds):
            await future
    except TimeoutError:
        return False
    return True


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""Fair handshakes: in each round of the event loop every client gets one, however many it asks for.

A TLS handshake is the costly part of a connection. A client that opens thousands waits behind itself, not before
others, and what is carried already goes on between two rounds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Turns:
    """One turn for each key a round; the others wait in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._had: set[str] = set()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def turn(self, key: str) -> None:
        """Wait for a turn."""
        if key not in self._had:
            if not self._had:
                self._loop.call_soon(self._round)
            self._had.add(key)
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(key, deque()).append(waiter)
        await waiter

    def _round(self) -> None:
        self._had.clear()
        for key, queue in tuple(self._waiting.items()):
            while queue:
                waiter = queue.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    self._had.add(key)
                    break
            if not queue:
                del self._waiting[key]
        if self._had:
            self._loop.call_soon(self._round)

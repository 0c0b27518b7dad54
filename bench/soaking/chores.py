"""What administrators and machines do meanwhile: reloads, sandboxes that come and go, rotations, a worker's death."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import signal
import ssl
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from bench.soaking.clients import expect
from bench.soaking.samples import processes
from bench.soaking.traffic import TUNNEL, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.soaking.clients import Sandbox
    from bench.soaking.traffic import World

# How long after a worker's death connections may still break, until the next one accepts.
_MENDED: Final = 3.0
_TTL: Final = 8
SERVED: Final = 200
# The first where another token would help.
GONE: Final = (407, 403)


class Chores:
    """Done beside the traffic for `seconds`; `done` counts them."""

    def __init__(self, world: World, sandboxes: list[Sandbox], seconds: float, workers: int) -> None:
        self._world, self._proxy, self._sandboxes = world, world.proxy, sandboxes
        self._seconds, self._victim = seconds, f"worker {workers}"
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """All of them, until the end. Raises what any of them raises."""
        every = min(60.0, self._seconds / 6)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(every, self._reload))
            group.create_task(self._repeat(min(300.0, self._seconds / 3), self._kill))
            group.create_task(self._repeat(min(30.0, self._seconds / 4), self._come_and_go))
            group.create_task(self._later(self._seconds * 0.4, self._rotate_secret))
            group.create_task(self._later(self._seconds * 0.6, self._rotate_ca))

    async def _repeat(self, every: float, work: Callable[[], Awaitable[None]]) -> None:
        end = time.monotonic() + self._seconds
        while time.monotonic() + every < end:
            await asyncio.sleep(every)
            await work()

    async def _later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(seconds)
        await work()

    async def _reload(self) -> None:
        self.done["reloads"] += 1
        self._proxy.write_policy(self.done["reloads"])
        await self._proxy.tell("reload")

    async def _kill(self) -> None:
        victim = processes(self._proxy.pid, {}).get(self._victim)
        if victim is None:
            return
        now = time.monotonic()
        self._world.disturbed.append((now, now + _MENDED))
        os.kill(victim.pid, signal.SIGKILL)
        self.done["workers killed"] += 1

    async def _come_and_go(self) -> None:
        """A sandbox by token is served until it is removed, or its time is over, and not afterwards."""
        number = self.done["sandboxes registered"] = self.done["sandboxes registered"] + 1
        name, expires = f"session-{number}", bool(number % 2)
        ttl = ("--ttl", f"{_TTL}s" if expires else "1h")
        printed = await self._proxy.tell("sandbox", "add", name, *ttl)
        began = time.monotonic()
        found = re.search(r"http://([^@\s]+)@", printed)
        expect(found, printed)
        token = base64.b64encode(found[1].encode()).decode() if found else ""
        asks = random.sample(self._sandboxes, min(3, len(self._sandboxes)))
        await self._ask(asks, token, SERVED)
        if expires:
            await asyncio.sleep(max(0.0, began + _TTL + 2 - time.monotonic()))
        else:
            await self._proxy.tell("sandbox", "rm", name)
        await self._ask(asks, token, *GONE)

    async def _ask(self, sandboxes: list[Sandbox], token: str, *statuses: int) -> None:
        async def work(sandbox: Sandbox, world: World) -> None:
            async with await sandbox.proxied() as wire:
                head = f"CONNECT {TUNNEL}:443 HTTP/1.1\r\nHost: {TUNNEL}:443\r\nProxy-Authorization: Basic {token}"
                got = await wire.ask(head)
                expect(got.status in statuses, f"{got.status} in place of {statuses}")
                world.decide(TUNNEL, "allow" if SERVED in statuses else "deny")

        name = "registered sandbox" if SERVED in statuses else "sandbox that is gone"
        for sandbox in sandboxes:
            await self._world.do(Kind(name, 0, TUNNEL, work), sandbox)

    async def _rotate_secret(self) -> None:
        self._proxy.write_secret(1)
        self.done["secrets rotated"] += 1

    async def _rotate_ca(self) -> None:
        """As for clients that must not be interrupted: they trust the next CA before it signs."""
        await self._proxy.tell("ca", "rotate", "--prepare")
        bundle = self._proxy.folder / "bundle.pem"
        await self._proxy.tell("ca", "bundle", "--output", str(bundle))
        self._world.ours, self._world.two = trusting(str(bundle)), trusting(str(bundle), "h2")
        await self._proxy.tell("ca", "rotate")
        self.done["CAs rotated"] += 1


def trusting(roots: str, *protocols: str) -> ssl.SSLContext:
    """A client's TLS with these roots, and what it offers."""
    context = ssl.create_default_context(cafile=roots)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context

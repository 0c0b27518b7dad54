"""What a worker and the mitm process have in common: a gate, its line to the hub, and the supervisor's word.

1. the generation in force changes on the supervisor's word alone, in two steps that cannot fail between them
2. told to drain, it refuses what is new and waits for what is under way
3. INVARIANT fail-closed: with the supervisor gone there is nobody to reload the policy or replace the hub, so it
   refuses everything, ends what is open, and exits
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from egress.credentials import redact_logs
from egress.gate.build import build_gate
from egress.gate.shares import ShareBook
from egress.server.channel import Line, Values, Word
from egress.server.fetches import HubSecrets
from egress.server.generations import read_generation
from egress.server.leases import Shares, stock
from egress.server.link import HubLink
from egress.server.names import HubNames
from egress.server.pieces import Rest, release, targets_in
from egress.server.questions import HubQuestions
from egress.server.quotas import HubCounting
from egress.server.rows import RowSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from egress.certs import Authority
    from egress.config import ServerConfig
    from egress.gate.generation import Generation
    from egress.policy import Policy
    from egress.server.children import Start

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.05
_FLUSH_SECONDS: Final = 10.0
# With the supervisor gone the hub does not stay for long either.
_ORPHAN_FLUSH_SECONDS: Final = 1.0
# What a name, or a secret, may take beyond the hub's own limit.
_NAME_SLACK_SECONDS: Final = 1.0
_WINDOW_AT_LEAST: Final = 100
# How often it is looked whether an old policy still carries anything.
_RELEASE_SECONDS: Final = 1.0
# Targets of rules: so many are looked through in a few milliseconds.
_LARGE: Final = 10_000


class Judging:
    """One process that judges. `on_drain` is called once, when nothing new is to be taken any more.

    `authority`: our CA, which is read again with each generation.
    """

    def __init__(self, config: ServerConfig, start: Start, on_drain: Callable[[], None], authority: Authority) -> None:
        self._loop = asyncio.get_running_loop()
        processes = config.workers + 1
        limits = config.limits
        self.shares = Shares(stock(limits.connections, processes), stock(limits.connections_per_client, processes))
        window = max(config.audit.queue // processes, _WINDOW_AT_LEAST)
        self._sink = RowSink(window, config.audit.flush_interval)
        names = HubNames(config.resolve, config.limits.resolve_seconds + _NAME_SLACK_SECONDS)
        counting = HubCounting(processes)
        secrets = HubSecrets(limits.secret_seconds + _NAME_SLACK_SECONDS)
        shares = (self.shares, counting)
        self.questions = HubQuestions(config.dns, limits.resolve_seconds + _NAME_SLACK_SECONDS)
        self._link = HubLink(
            self._sink, (names, secrets), shares, lambda: self._supervisor.say(Word.LINK, 0), self.questions
        )
        given = self.questions if config.dns.gives else None
        self.gate = build_gate(
            config, self._sink, start.generation, names, secrets, commit=self._sink.commit, given=given
        )
        self.gate.quotas = ShareBook(counting)
        self.gate.presentable = authority.permits
        self._authority = authority
        redact_logs(self.gate.secrets)
        self._on_drain = on_drain
        self._next: Generation | None = None
        self._deadline = float("inf")
        self._draining = asyncio.Event()
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._supervisor = Line(self._loop, start.control, self._told, self._orphaned)

    def ready(self) -> None:
        """Say that this process serves."""
        self._supervisor.say(Word.READY, 0)

    async def until_drained(self) -> None:
        """Wait for the word to drain, then until nothing is under way or the time for it is over."""
        await self._draining.wait()
        while self.gate.open and self._loop.time() < self._deadline:  # noqa: ASYNC110 - many exchanges, no single event
            await asyncio.sleep(_POLL_SECONDS)
        if self.gate.open:
            logger.warning("stopping with %d requests under way", len(self.gate.open))

    async def until_told_to_end(self) -> None:
        """Wait until nobody needs this process any more."""
        await self._end.wait()

    async def finish(self, close: Callable[[], Awaitable[None]]) -> int:
        """End what is open and have it recorded; the exit status."""
        await close()
        if self.gate.recorder.floods is not None:
            self.gate.recorder.floods.close()
        whole = await self._sink.flush(_ORPHAN_FLUSH_SECONDS if self._deadline == 0 else _FLUSH_SECONDS)
        if not whole:
            logger.error("not everything could be recorded before the end")
        return 0 if whole else 1

    # the supervisor's word

    def _told(self, values: Values, descriptors: list[int]) -> None:
        match values:
            case (Word.LINK,):
                (descriptor,) = descriptors
                self._link.attach(socket.socket(fileno=descriptor))
            case (Word.PREPARE, number):
                (descriptor,) = descriptors
                self._do(self._prepare(number, descriptor))
            case (Word.COMMIT, number):
                if self._next is None or self._next.number != number:
                    raise ValueError(number)
                old = self.gate.generation
                self.gate.adopt(self._next)
                self._next = None
                self._do(self._release(old))
                self._supervisor.say(Word.COMMITTED, number)
            case (Word.CUT, _):
                self._supervisor.say(Word.CUT, self.gate.cut_denied())
            case (Word.STATUS, number):
                self._supervisor.say(Word.STATUS, number, self._status())
            case (Word.DRAIN, seconds):
                self._drain(self._loop.time() + seconds)
            case (Word.END,):
                self._end.set()
            case _:
                raise ValueError(values[0])

    def _status(self) -> dict[str, Any]:
        """Plain values. `refused`: rows that were turned away, of which the hub has not been told yet."""
        return {
            "sandboxes": {} if self.gate.generation.roster is None else dict(Counter(self.gate.clients())),
            "generation": self.gate.generation.number,
            "connections": self.shares.connections.used,
            "open": len(self.gate.open),
            "tasks": len(asyncio.all_tasks()),
            "refused": self._sink.refused,
            "waiting": self._sink.waiting,
        }

    async def _prepare(self, number: int, descriptor: int) -> None:
        # What is frozen is never looked at again: circles that nobody needs any more must not be among it.
        gc.collect()
        gc.disable()
        try:
            # A large policy takes seconds to compile; what is open goes on meanwhile, in the rests.
            self._next = await asyncio.to_thread(read_generation, descriptor, self.gate.generation, Rest())
            # The supervisor has read it just now, so that it can be.
            await asyncio.to_thread(self._authority.renew)
            # A collection would look through all of a large policy at once, while everything else stands still. It
            # holds no cycles, so what is frozen here is still freed once the next policy takes its place. Not for a
            # small one: circles of what is open now, closed later, would stay for good.
            if targets_in(_policies_of(self._next)) > _LARGE:
                gc.freeze()
        except Exception:
            # Going on with the old one is no choice: this process ends, and begins anew with the new generation.
            logger.exception("a new policy could not be taken over")
            self._orphaned()
            return
        finally:
            gc.enable()
        self._supervisor.say(Word.PREPARED, number)

    async def _release(self, old: Generation) -> None:
        """Let an old policy go a little at a time: freeing a large one at once would hold up everything else."""
        while any(exchange.generation is old for exchange in self.gate.open.values()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(_RELEASE_SECONDS)
        policies = _policies_of(old)
        del old
        await asyncio.to_thread(release, policies, Rest())

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drain(self, deadline: float) -> None:
        self._deadline = min(self._deadline, deadline)
        self.gate.draining = True
        if not self._draining.is_set():
            self._draining.set()
            self._on_drain()

    def _orphaned(self) -> None:
        self._drain(0)
        self._end.set()


def _policies_of(generation: Generation) -> list[Policy]:
    return [generation.policy, *(() if generation.roster is None else generation.roster.policies.values())]

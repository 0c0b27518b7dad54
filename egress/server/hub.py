"""The hub: the one process that writes the audit, resolves names, fetches secrets, and counts what the limits leave.

1. a row is recorded in the order in which its process sent it, and said to be recorded only once it is committed
2. what keeps the audit from being written is told to every process at once, so that they refuse before they accept
3. a process that is gone has said its last when its channel ends: what it sent before is recorded, what it held is free
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from egress.audit.row import COLUMNS, DECISIONS, unpacked
from egress.config import Durability
from egress.credentials import redact_logs
from egress.errors import EgressError
from egress.gate.build import build_book, build_resolver, open_audit
from egress.gate.fetching import build_broker
from egress.server.channel import Line, Values, Word, close_all
from egress.server.fetches import Fetches
from egress.server.hub_questions import Questions
from egress.server.leases import CONNECTIONS, Pools
from egress.server.quotas import QuotaPool
from egress.server.secret_changes import SecretChanges
from egress.server.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from egress.audit import AuditWriter
    from egress.audit.row import Row
    from egress.config import ServerConfig
    from egress.credentials import Secret
    from egress.gate.resolver import Resolver, Servers

logger = logging.getLogger(__name__)

_LOOKUPS_AT_MOST: Final = 4096
# What the others have left to say when the hub is to end, and what is then still to be written.
_LAST_WORDS_SECONDS: Final = 3.0
_FLUSH_SECONDS: Final = 10.0
_VERDICT: Final = COLUMNS[DECISIONS].index("verdict")
_COUNT: Final = COLUMNS[DECISIONS].index("count")


@dataclass(slots=True, eq=False)
class _Client:
    """A process that judges. `waiting`: numbers of its batches, with the writer's number for their last row."""

    holder: str
    line: Line
    waiting: deque[tuple[int, int]] = field(default_factory=deque)


class Hub:
    """Serves the processes that judge, on the running loop."""

    def __init__(self, config: ServerConfig, names: Resolver | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._strict = config.audit.durability is Durability.STRICT
        self._writer: AuditWriter
        self._names = names or build_resolver(config)
        self.questions = Questions(self._names, build_book(config))
        self.fetches = Fetches(build_broker(config, self._names, self.note))
        self.pools = Pools({CONNECTIONS: config.limits.connections}, config.limits.connections_per_client)
        self.quotas = QuotaPool()
        self._clients: set[_Client] = set()
        self._lookups: set[asyncio.Task[None]] = set()
        self._problem = "the audit is not open"
        self._count = 0
        # What this hub has counted since it began; the next one begins anew.
        self._since = time.time()
        self._verdicts: Counter[str] = Counter()
        self._refused = 0
        self._tally = Tally()
        self._lookups_told: Counter[str] = Counter()
        # The writer's number for the last row of each batch that is not recorded yet, and when it was taken.
        self._unrecorded: deque[tuple[int, float]] = deque()

    def open(self) -> None:
        """Open what stays on the disk. Raises AuditError, StateError."""
        self._writer = open_audit(self._config, self._changed)
        self.questions.open()
        self._problem = ""

    def note(self, kind: str, detail: str) -> None:
        """Record what happened to the proxy."""
        self._tally.note(kind)
        self._writer.note(kind, detail)

    def status(self) -> dict[str, Any]:
        """Plain values: rows and decisions since this hub began, and what keeps it from recording."""
        return {
            "since": self._since,
            "verdicts": dict(self._verdicts),
            "recorded": self._writer.recorded,
            "refused": self._refused,
            "problem": self._problem,
            "waiting": self._writer.waiting,
            "tasks": len(asyncio.all_tasks()),
            "lag": time.monotonic() - self._unrecorded[0][1] if self._unrecorded else 0.0,
            "lookups": dict(self._lookups_told),
            "fetches": dict(self.fetches.broker.outcomes),
            "tally": self._tally.plain(),
        }

    def attach(self, name: str, end: socket.socket) -> None:
        """Serve one more process."""
        line = Line(self._loop, end, lambda values, _: self._heard(client, values), lambda: self._lost(client))
        self._count += 1
        client = _Client(f"{name}, the {self._count}.", line)
        self._clients.add(client)
        self.pools.expect(client.holder)
        self.quotas.joined(name, client.holder)
        line.say(Word.AUDIT, self._problem)

    def complete(self) -> None:
        """Every process that was there before this hub is known by now."""
        self.pools.complete()
        self.quotas.serve(ready=self.pools.ready)

    async def close(self) -> bool:
        """Hear what the others still say until they are gone, record it, and end; whether all is recorded."""
        deadline = self._loop.time() + _LAST_WORDS_SECONDS
        while self._clients and self._loop.time() < deadline:  # noqa: ASYNC110 - many clients, no single event
            await asyncio.sleep(0.01)
        await self.fetches.close()
        await self.questions.close()
        return await asyncio.to_thread(self._writer.close, _FLUSH_SECONDS)

    # what the processes say

    def _heard(self, client: _Client, values: Values) -> None:
        match values:
            case (Word.ROWS, number, rows):
                self._take_rows(client, number, rows)
            case (Word.REFUSED, since_us, counts):
                self._refused += sum(counts.values())
                self._writer.count_refused(counts, since_us)
            case (Word.ASK, name, servers):
                self._look_up(client, name, servers)
            case (Word.QUESTION, number, about, *told):
                self.questions.asked(client.line, number, about, told)
            case (Word.FETCH, number, name, source, leaves):
                self.fetches.asked(client.line, number, (name, source, leaves))
            case (Word.HELD, held):
                self.pools.report(client.holder, held)
                self.quotas.serve(ready=self.pools.ready)
            case (Word.TAKE, key, count):
                self.pools.take(client.holder, client.line, key, count)
            case (Word.GIVE, key, count):
                self.pools.give(client.holder, key, count)
            case _:
                self.quotas.heard(client.holder, client.line, values, ready=self.pools.ready)

    def _lost(self, client: _Client) -> None:
        self._clients.discard(client)
        self.pools.gone(client.holder)
        self.quotas.gone(client.holder)
        self.quotas.serve(ready=self.pools.ready)

    # the audit

    def _take_rows(self, client: _Client, number: int, rows: Iterable[bytes]) -> None:
        taken = list(self._decoded(rows))
        recorded_at = self._writer.offer_rows(taken)
        # Requests wait for decisions; nobody does for what follows them.
        if self._strict and any(table == DECISIONS for table, _, _ in taken):
            self._writer.hurry()
        if recorded_at:
            self._unrecorded.append((recorded_at, time.monotonic()))
            client.waiting.append((number, recorded_at))

    def _decoded(self, rows: Iterable[bytes]) -> Iterator[tuple[str, Row, bytes]]:
        for data in rows:
            table, values = unpacked(data)
            if table == DECISIONS:
                self._verdicts[values[_VERDICT]] += values[_COUNT]
            self._tally.row(table, values)
            yield table, values, data

    def _changed(self) -> None:
        """The writer tried to record; called in its thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        problem = self._writer.problem or ""
        if problem != self._problem:
            self._problem = problem
            for client in self._clients:
                client.line.say(Word.AUDIT, problem)
        recorded = self._writer.recorded
        while self._unrecorded and self._unrecorded[0][0] <= recorded:
            self._unrecorded.popleft()
        for client in self._clients:
            number = 0
            while client.waiting and client.waiting[0][1] <= recorded:
                number, _ = client.waiting.popleft()
            if number:
                client.line.say(Word.RECORDED, number)

    # names

    def _look_up(self, client: _Client, name: str, servers: Servers) -> None:
        if len(self._lookups) >= _LOOKUPS_AT_MOST:
            client.line.say(Word.ANSWER, name, servers, (), "too many names are being resolved", 0.0)
            return
        task = self._loop.create_task(self._answer(client, name, servers))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _answer(self, client: _Client, name: str, servers: Servers) -> None:
        try:
            answer = await self._names.resolve(name, servers)
        except Exception:
            logger.exception("a name could not be resolved")
            self._lookups_told["failed"] += 1
            client.line.say(Word.ANSWER, name, servers, (), "the resolver failed", 0.0)
            return
        self._lookups_told["failed" if answer.error else "answered"] += 1
        addresses = [str(address) for address in answer.addresses]
        client.line.say(Word.ANSWER, name, servers, addresses, answer.error, answer.ttl)


async def serve(control: socket.socket, config: ServerConfig, known: Callable[[], Iterable[Secret]] = tuple) -> int:
    """Be the hub until the supervisor says so, or is gone; the exit status. `known`: values that logs must not show."""
    hub = Hub(config)
    redact_logs(lambda: (*known(), *hub.fetches.values()))
    end = asyncio.Event()

    def told(values: Values, descriptors: list[int]) -> None:
        match values:
            case (Word.LINK, name):
                (descriptor,) = descriptors
                hub.attach(name, socket.socket(fileno=descriptor))
            case (Word.LINKED,):
                hub.complete()
            case (Word.NOTE, kind, detail):
                hub.note(kind, detail)
            case (Word.STATUS, number):
                supervisor.say(Word.STATUS, number, hub.status())
            case (Word.END,):
                end.set()
            case _:
                close_all(descriptors)

    supervisor = Line(asyncio.get_running_loop(), control, told, end.set)
    try:
        hub.open()
    except EgressError as error:
        supervisor.say(Word.FAILED, type(error).__name__, error.message, error.hint)
        return 1
    supervisor.say(Word.READY, 0)
    watching = asyncio.create_task(SecretChanges(config, hub.note).watch())
    # Slow to load, and not needed before the first name is.
    await asyncio.to_thread(importlib.import_module, "egress.gate.lookup")
    await end.wait()
    watching.cancel()
    whole = await hub.close()
    if not whole:
        logger.error("not everything could be recorded before the end")
    return 0 if whole else 1

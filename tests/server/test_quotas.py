"""Rules' limits over several processes: never above, hardly below, whoever dies, and nothing without a hub."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joined import Process as Joined
from joined import config_in, hub_in, until

from egress.gate.quota import Over
from egress.gate.shares import Held, ShareBook
from egress.policy import Rate, RuleLimits
from egress.server.channel import Word
from egress.server.quotas import RESERVE, HubCounting, NoAnswerError, QuotaPool

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60
LIMITS = (
    ("rule", RuleLimits(requests=Rate(12, SECONDS), concurrent=4, upload=Rate(8_000, SECONDS))),
    ("other", RuleLimits(upload=Rate(9_000, SECONDS), download=Rate(20_000, SECONDS))),
)
BUCKET = (("rule", RuleLimits(requests=Rate(6, SECONDS), burst=5)),)


@dataclass
class Wire:
    """One direction of a channel: what was said and not yet heard."""

    said: deque[tuple[object, ...]] = field(default_factory=deque)

    def say(self, word: Word, *values: object) -> None:
        """Say something."""
        self.said.append((word, *values))


@dataclass
class Worker:
    """A process that judges, the two directions of its channel, and what it holds and waits for."""

    name: str
    counting: HubCounting
    book: ShareBook
    holder: str = ""
    up: Wire = field(default_factory=Wire)
    down: Wire = field(default_factory=Wire)
    held: list[Held] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Machine:
    """A hub and its processes, whose messages travel when the test says so, on a clock of the test's."""

    def __init__(self, processes: int, limits: tuple[tuple[str, RuleLimits], ...] = LIMITS) -> None:
        self.limits = limits
        self.now = 1000.0
        self.count = processes
        self.joins = 0
        self.ready: set[str] = set()
        self.pool = QuotaPool(self.clock)
        self.workers: list[Worker] = []
        self.admitted: list[float] = []
        self.refused = 0
        self.passed: list[tuple[float, int]] = []
        for number in range(processes):
            self.bear(f"worker {number}")

    def clock(self) -> float:
        """The moment."""
        return self.now

    @property
    def under_way(self) -> int:
        """Requests that hold a place, in all processes that live."""
        return sum(len(worker.held) for worker in self.workers)

    def bear(self, name: str) -> None:
        """A new process."""
        counting = HubCounting(self.count, self.clock)
        worker = Worker(name, counting, ShareBook(counting))
        self.workers.append(worker)
        self.join(worker)

    def join(self, worker: Worker) -> None:
        """A new channel between a process and the hub."""
        self.joins += 1
        worker.holder = f"{worker.name}, {self.joins}"
        worker.up, worker.down = Wire(), Wire()
        self.pool.joined(worker.name, worker.holder)
        worker.counting.report(worker.up)  # type: ignore[arg-type]
        worker.up.say(Word.HELD)
        worker.counting.attached(worker.up)  # type: ignore[arg-type]

    def kill(self, worker: Worker) -> None:
        """A process dies; another of its name takes its place."""
        self.workers.remove(worker)
        for task in worker.tasks:
            task.cancel()
        while worker.up.said:
            self.hear(worker)
        self.pool.gone(worker.holder)
        self.ready.discard(worker.holder)
        self.bear(worker.name)

    def replace_hub(self) -> None:
        """The hub dies with all that was under way to and from it."""
        for worker in self.workers:
            worker.counting.lost()
        self.pool = QuotaPool(self.clock)
        self.ready = set()
        for worker in self.workers:
            self.join(worker)

    def hear(self, worker: Worker) -> None:
        """The hub hears the next that a process said."""
        values = worker.up.said.popleft()
        if values[0] is Word.HELD:
            self.ready.add(worker.holder)
        else:
            self.pool.heard(worker.holder, worker.down, values, ready=self.all_ready)  # type: ignore[arg-type]
        self.pool.serve(ready=self.all_ready)

    @property
    def all_ready(self) -> bool:
        """Whether every process has told what it holds."""
        return all(worker.holder in self.ready for worker in self.workers)

    def tell(self, worker: Worker) -> None:
        """A process hears the next that the hub said."""
        _, number, answer = worker.down.said.popleft()
        worker.counting.answered(number, answer)  # type: ignore[arg-type]

    async def settle(self) -> None:
        """Let everything that is said be heard, and what follows from it."""
        for _ in range(200):
            for worker in self.workers:
                while worker.up.said:
                    self.hear(worker)
                while worker.down.said:
                    self.tell(worker)
            await asyncio.sleep(0)
            if not any(worker.up.said or worker.down.said for worker in self.workers):
                await asyncio.sleep(0)

    async def ask(self, worker: Worker) -> None:
        """A request comes."""
        with contextlib.suppress(NoAnswerError):
            got = await worker.book.hold("sandbox", self.limits)
            if isinstance(got, Over):
                self.refused += 1
            else:
                worker.held.append(got)
                self.admitted.append(self.now)

    async def carry(self, worker: Worker, size: int) -> None:
        """Bytes of a request come."""
        if worker.held and worker.held[-1].up is not None:
            taken = await worker.held[-1].up.take(size)
            self.passed.append((self.now, taken))

    def check(self) -> None:
        """Never above."""
        concurrent = self.limits[0][1].concurrent
        assert concurrent is None or self.under_way <= concurrent
        for start in self.admitted:
            within = sum(start <= at < start + SECONDS - 1e-9 for at in self.admitted)
            requests, burst = self.limits[0][1].requests, self.limits[0][1].burst
            assert requests is None or within <= requests.count + (burst or 0)
        for start, _ in self.passed:
            assert sum(size for at, size in self.passed if start <= at < start + SECONDS - 1e-9) <= 8_000


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "carry", "carry", "end", "hear", "tell", "settle", "wait", "kill", "hub"]
        ),
        st.integers(0, 7),
        st.integers(1, 3_000),
    ),
    max_size=60,
)


async def _act(machine: Machine, what: str, worker: Worker, number: int) -> None:
    match what:
        case "ask":
            worker.tasks.append(asyncio.ensure_future(machine.ask(worker)))
        case "carry":
            worker.tasks.append(asyncio.ensure_future(machine.carry(worker, number)))
        case "end" if worker.held:
            worker.held.pop(0).release()
        case "hear" if worker.up.said:
            machine.hear(worker)
        case "tell" if worker.down.said:
            machine.tell(worker)
        case "settle":
            await machine.settle()
        case "wait":
            # What the hub grants is used at once, as seen from the length of a window.
            await machine.settle()
            machine.now += number / 50
        case "kill":
            machine.kill(worker)
        case "hub":
            machine.replace_hub()
        case _:
            pass
    await asyncio.sleep(0)


async def _played(processes: int, acts: list[tuple[str, int, int]], limits: tuple[tuple[str, RuleLimits], ...]) -> None:
    machine = Machine(processes, limits)
    for what, which, number in acts:
        await _act(machine, what, machine.workers[which % processes], number)
        machine.check()
    await machine.settle()
    machine.check()
    for worker in machine.workers:
        for task in worker.tasks:
            task.cancel()
        await asyncio.gather(*worker.tasks, return_exceptions=True)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), ACTS)
def test_no_limit_is_exceeded_by_all_processes_together(processes: int, acts: list[tuple[str, int, int]]) -> None:
    """Whatever the order in which messages travel, processes die and hubs are replaced."""
    # A process and the hub that die at once take with them what only they knew.
    acts = [act for act in acts if act[0] != "kill"] if any(act[0] == "hub" for act in acts) else acts
    asyncio.run(_played(processes, acts, LIMITS))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), ACTS)
def test_no_burst_is_exceeded_by_all_processes_together(processes: int, acts: list[tuple[str, int, int]]) -> None:
    """Also over the end of a hub: a bucket that another hub kept begins empty."""
    acts = [act for act in acts if act[0] != "kill"] if any(act[0] == "hub" for act in acts) else acts
    asyncio.run(_played(processes, acts, BUCKET))


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_hardly_less_than_the_limit_is_had(processes: int) -> None:
    """At least 95% of the requests and of the bytes, in however small pieces and through however many processes."""

    async def main() -> tuple[int, int]:
        limits = (("rule", RuleLimits(requests=Rate(100, SECONDS), upload=Rate(1_000_000, SECONDS))),)
        machine = Machine(processes, limits)
        for turn in range(120):
            worker = machine.workers[turn % processes]
            worker.tasks.append(asyncio.ensure_future(machine.ask(worker)))
            await machine.settle()
        for turn in range(4_000):
            worker = machine.workers[turn % processes]
            worker.tasks.append(asyncio.ensure_future(machine.carry(worker, 300)))
            if worker.up.said or turn % 7 == 0:
                await asyncio.sleep(0)
                for each in machine.workers:
                    while each.up.said:
                        machine.hear(each)
                    while each.down.said:
                        machine.tell(each)
                await asyncio.sleep(0)
        await machine.settle()
        return len(machine.admitted), sum(size for _, size in machine.passed)

    admitted, passed = asyncio.run(main())
    assert admitted == 100
    assert 950_000 <= passed <= 1_000_000


def test_the_stocks_of_all_processes_are_no_more_than_is_never_granted() -> None:
    """What lies in stock may pass after it has ceased to count."""
    for limit in (1, 79, 1_000, 10**9):
        for processes in (1, 2, 9):
            stocks = HubCounting(processes).keep(limit) * processes
            assert stocks <= int(limit * RESERVE)


def test_a_new_hub_knows_what_was_spent() -> None:
    """Bytes, requests and places are counted on where the hub that died had counted them."""

    async def main() -> None:
        machine = Machine(2)
        worker, other = machine.workers
        tasks = [asyncio.ensure_future(machine.ask(worker)) for _ in range(3)]
        await machine.settle()
        tasks.append(asyncio.ensure_future(machine.carry(worker, 7_900)))
        await machine.settle()
        machine.replace_hub()
        await machine.settle()
        assert machine.under_way == 3
        tasks += [asyncio.ensure_future(machine.ask(other)) for _ in range(3)]
        await machine.settle()
        assert (machine.under_way, machine.refused) == (3, 3)
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_a_line_that_breaks_is_not_counted_twice() -> None:
    """A process that comes back to the hub that it had tells it nothing new of what it spent."""

    async def main() -> None:
        machine = Machine(1)
        (worker,) = machine.workers
        await asyncio.gather(*(_soon(machine, machine.ask(worker)) for _ in range(3)))
        for _ in range(3):
            worker.counting.lost()
            machine.pool.gone(worker.holder)
            machine.join(worker)
            await machine.settle()
        for held in (*worker.held,):
            held.release()
        worker.held.clear()
        await asyncio.gather(*(_soon(machine, machine.ask(worker)) for _ in range(4)))
        assert machine.under_way == 4

    asyncio.run(main())


async def _soon(machine: Machine, coroutine: object) -> None:
    task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]
    await machine.settle()
    await task


def test_without_a_hub_nothing_is_admitted_and_no_byte_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both end in time; what a hub grants later goes back to it."""
    monkeypatch.setattr("egress.server.quotas._ANSWER_SECONDS", 0.05)

    async def main() -> None:
        machine = Machine(1)
        (worker,) = machine.workers
        await _soon(machine, machine.ask(worker))
        (held,) = worker.held
        assert held.up is not None
        assert await held.up.take(1_000) == 0
        with pytest.raises(NoAnswerError):
            await worker.book.hold("sandbox", LIMITS)
        await machine.settle()
        for _ in range(3):
            await _soon(machine, machine.ask(worker))
        assert machine.under_way == 4

    asyncio.run(main())


def test_who_stops_waiting_leaves_no_place_taken() -> None:
    """At whatever moment: before the hub has heard, before its answer is here, and just as it is."""

    async def main() -> None:
        machine = Machine(1)
        (worker,) = machine.workers
        for moment in range(9):
            task = asyncio.ensure_future(machine.ask(worker))
            await asyncio.sleep(0)
            while moment % 3 and worker.up.said:
                machine.hear(worker)
            while moment % 3 == 2 and worker.down.said:
                machine.tell(worker)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await machine.settle()
        machine.now += 2 * SECONDS
        for _ in range(4):
            await _soon(machine, machine.ask(worker))
        assert machine.under_way == 4

    asyncio.run(main())


def test_two_processes_and_a_hub_over_real_channels(tmp_path: Path) -> None:
    """The messages are understood, and a limit is one for both."""

    async def main() -> None:
        config = config_in(tmp_path)
        hub = hub_in(config)
        one, two = Joined(config), Joined(config)
        one.join(hub, "worker 1")
        two.join(hub, "worker 2")
        await until(lambda: hub.pools.ready, "both")
        books = [ShareBook(one.counting), ShareBook(two.counting)]
        answers = [await books[turn % 2].hold("sandbox", LIMITS) for turn in range(6)]
        assert [isinstance(answer, Held) for answer in answers] == [True] * 4 + [False] * 2
        held = answers[1]
        assert isinstance(held, Held)
        assert held.up is not None
        assert await held.up.take(9_999) == 7_900
        held.release()
        over = await books[0].hold("sandbox", LIMITS)
        assert isinstance(over, Over)
        assert over.limit == "upload"
        for process in (one, two):
            process.link.close()
        await hub.close()

    asyncio.run(main())

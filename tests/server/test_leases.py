"""Leased limits: never above, at most 5% below, whatever the order in which processes ask, end and are replaced."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.server.channel import Word
from egress.server.leases import CONNECTIONS, LeasedSlots, Pools, Shares, stock

if TYPE_CHECKING:
    from collections.abc import Coroutine

KEY = CONNECTIONS


@dataclass
class Wire:
    """One direction of a channel: what was said and not yet heard."""

    said: deque[tuple[object, ...]] = field(default_factory=deque)

    def say(self, word: Word, *values: object) -> None:
        """Say something."""
        self.said.append((word, *values))


@dataclass
class Process:
    """A process with slots, the two directions of its channel, and the connections that hold a unit."""

    name: str
    slots: LeasedSlots
    up: Wire = field(default_factory=Wire)
    down: Wire = field(default_factory=Wire)
    waiting: list[asyncio.Task[bool]] = field(default_factory=list)
    carried: int = 0


class Machine:
    """A hub and its processes, whose messages travel when the test says so."""

    def __init__(self, limit: int, processes: int) -> None:
        self.limit, self.count = limit, processes
        self.pools = Pools({KEY: limit})
        self.processes: list[Process] = []
        self.refused = 0
        self.born = 0
        for _ in range(processes):
            self.bear()
        self.pools.complete()

    def bear(self) -> None:
        """A new process."""
        self.born += 1
        process = Process(f"worker {self.born}", LeasedSlots(KEY, stock(self.limit, self.count)))
        self.processes.append(process)
        self.join(process)

    def join(self, process: Process) -> None:
        """A new channel between a process and the hub."""
        process.up, process.down = Wire(), Wire()
        self.pools.expect(process.name)
        process.up.say(Word.HELD, [(KEY, process.slots.held)])
        process.slots.attached(process.up)  # type: ignore[arg-type]

    def kill(self, process: Process) -> None:
        """A process dies: the hub hears what it said last, then that it is gone; another takes its place."""
        self.processes.remove(process)
        while process.up.said:
            self.hear(process)
        self.pools.gone(process.name)
        for task in process.waiting:
            task.cancel()
        self.bear()

    def replace_hub(self) -> None:
        """The hub dies with all that was under way to and from it; a new one is joined to every process."""
        for process in self.processes:
            process.slots.lost()
        self.pools = Pools({KEY: self.limit})
        for process in self.processes:
            self.join(process)
        self.pools.complete()

    def hear(self, process: Process) -> None:
        """The hub hears one message."""
        word, *values = process.up.said.popleft()
        match word:
            case Word.HELD:
                self.pools.report(process.name, *values)  # type: ignore[arg-type]
            case Word.TAKE:
                self.pools.take(process.name, process.down, *values)  # type: ignore[arg-type]
            case _:
                self.pools.give(process.name, *values)  # type: ignore[arg-type]

    def grant(self, process: Process) -> None:
        """A process hears one message."""
        _, _, count = process.down.said.popleft()
        process.slots.granted(count)  # type: ignore[arg-type]

    def step(self, step: str, process: Process) -> None:
        """One thing happens, if it can."""
        match step:
            case "take":
                process.waiting.append(asyncio.ensure_future(process.slots.take()))
            case "end" if process.carried:
                process.carried -= 1
                process.slots.give_back()
            case "hear" if process.up.said:
                self.hear(process)
            case "grant" if process.down.said:
                self.grant(process)
            case "kill":
                self.kill(process)
            case "hub":
                self.replace_hub()
            case "cancel" if process.waiting:
                process.waiting.pop().cancel()

    async def settle(self) -> None:
        """Who waits learns what came of it."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for process in self.processes:
            for task in [task for task in process.waiting if task.done()]:
                process.waiting.remove(task)
                if not task.cancelled():
                    process.carried += task.result()
                    self.refused += not task.result()

    async def deliver(self) -> None:
        """Everything that was said is heard."""
        for _ in range(100):
            await self.settle()
            if not any(process.up.said or process.down.said for process in self.processes):
                return
            for process in self.processes:
                while process.up.said:
                    self.hear(process)
                while process.down.said:
                    self.grant(process)
        raise AssertionError("they talk for ever")

    @property
    def carried(self) -> int:
        """Connections that hold a unit."""
        return sum(process.carried for process in self.processes)


def run(work: Coroutine[object, object, None]) -> None:
    """Run on a loop of its own."""
    asyncio.run(work)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "end", "hear", "grant", "kill", "hub", "cancel"]), st.integers(0, 7)
    ),
    max_size=120,
)


@settings(max_examples=150)
@given(limit=st.integers(1, 120), processes=st.integers(1, 8), steps=STEPS)
def test_never_above_and_hardly_below(limit: int, processes: int, steps: list[tuple[str, int]]) -> None:
    """At every step no more units are in use than the limit; at the end, all but 5% of them can be."""

    async def play() -> None:
        machine = Machine(limit, processes)
        for step, which in steps:
            machine.step(step, machine.processes[which % processes])
            await machine.settle()
            held = sum(process.slots.held for process in machine.processes)
            assert machine.carried <= held <= limit
        await machine.deliver()
        machine.refused = 0
        while not machine.refused:
            process = machine.processes[0]
            process.waiting.append(asyncio.ensure_future(process.slots.take()))
            await machine.deliver()
            assert machine.carried <= limit
        assert machine.carried >= limit * 0.95

    run(play())


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("limit", [1, 7, 19, 100, 4096])
def test_a_limit_means_the_same_with_any_number_of_processes(limit: int, processes: int) -> None:
    """Each takes in turn until it is refused: together they have the whole limit, or all but 5%."""

    async def play() -> None:
        machine = Machine(limit, processes)
        refused: set[str] = set()
        while len(refused) < processes:
            for process in machine.processes:
                before = machine.refused
                process.waiting.append(asyncio.ensure_future(process.slots.take()))
                await machine.deliver()
                if machine.refused > before:
                    refused.add(process.name)
        assert limit * 0.95 <= machine.carried <= limit

    run(play())


@pytest.mark.parametrize("processes", [2, 8])
def test_what_lies_unused_in_all_processes_is_little(processes: int) -> None:
    """Each had many and gave them back: together they keep so few that one alone gets at 95% of the limit."""

    async def play() -> None:
        machine = Machine(1000, processes)
        for process in machine.processes:
            for _ in range(100):
                process.waiting.append(asyncio.ensure_future(process.slots.take()))
            await machine.deliver()
            while process.carried:
                machine.step("end", process)
            await machine.deliver()
            assert 0 < process.slots.held <= 50 // processes
        (first, *_) = machine.processes
        while not machine.refused:
            first.waiting.append(asyncio.ensure_future(first.slots.take()))
            await machine.deliver()
        assert 950 <= first.carried <= 1000

    run(play())


def test_a_unit_for_somebody_who_has_just_left_goes_back() -> None:
    """The pool's answer and the end of the connection that waited for it cross."""

    async def play() -> None:
        machine = Machine(10, 1)
        (process,) = machine.processes
        waits = asyncio.ensure_future(process.slots.take())
        await asyncio.sleep(0)
        while process.up.said:
            machine.hear(process)
        machine.grant(process)
        waits.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waits
        assert waits.cancelled()
        await machine.deliver()
        assert machine.pools.free(KEY) == 10

    run(play())


def test_most_units_are_taken_without_asking() -> None:
    """A stock saves the way to the hub: one question for many connections."""

    async def play() -> None:
        machine = Machine(4096, 2)
        asked = 0
        for _ in range(1000):
            (process, _) = machine.processes
            if process.slots.try_take() is None:
                process.waiting.append(asyncio.ensure_future(process.slots.take()))
                await machine.settle()
                asked += 1
                await machine.deliver()
        assert asked < 50

    run(play())


@pytest.mark.parametrize("hub", ["replaced", "gone"])
def test_who_waits_when_the_hub_dies_waits_for_another(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so does who comes meanwhile, but no longer than for any answer."""
    monkeypatch.setattr("egress.server.leases._ANSWER_SECONDS", 0.1)

    async def play() -> None:
        machine = Machine(100, 1)
        (process,) = machine.processes
        waiting = [asyncio.ensure_future(process.slots.take())]
        await asyncio.sleep(0)
        process.slots.lost()
        waiting.append(asyncio.ensure_future(process.slots.take()))
        await asyncio.sleep(0)
        if hub == "replaced":
            machine.replace_hub()
            await machine.deliver()
        assert await asyncio.gather(*waiting) == [hub == "replaced"] * 2

    run(play())


def test_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no hub, a flood of connections is refused at once beyond so many."""
    monkeypatch.setattr("egress.server.leases._WAITING_AT_MOST", 3)
    monkeypatch.setattr("egress.server.leases._ANSWER_SECONDS", 0.1)

    async def play() -> None:
        slots = LeasedSlots(KEY, 5)
        waiting = [asyncio.ensure_future(slots.take()) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert [turn.done() for turn in waiting] == [False, False, False, True]
        assert await asyncio.gather(*waiting) == [False] * 4

    run(play())


def test_a_hub_that_hangs_refuses_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is a refusal; an answer that comes too late goes back to the pool."""
    monkeypatch.setattr("egress.server.leases._ANSWER_SECONDS", 0.02)

    async def play() -> None:
        machine = Machine(100, 1)
        (process,) = machine.processes
        assert await process.slots.take() is False
        await machine.deliver()
        assert process.slots.held <= stock(100, 1)
        assert machine.pools.free(KEY) == 100 - process.slots.held

    run(play())


def test_a_new_hub_grants_nothing_before_it_knows_what_is_held() -> None:
    """Its pool looks full until the last process has reported; what it granted before would be too much."""

    async def play() -> None:
        machine = Machine(10, 2)
        one, other = machine.processes
        for _ in range(10):
            one.waiting.append(asyncio.ensure_future(one.slots.take()))
        await machine.deliver()
        assert one.carried == 10
        machine.replace_hub()
        other.waiting.append(asyncio.ensure_future(other.slots.take()))
        await machine.settle()
        while other.up.said:
            machine.hear(other)
        assert not other.down.said
        await machine.deliver()
        assert (machine.refused, other.carried) == (1, 0)

    run(play())


def test_a_process_cannot_give_back_what_it_does_not_hold() -> None:
    """A pool never grows beyond its limit."""
    pools = Pools({KEY: 10})
    pools.expect("worker")
    pools.complete()
    pools.report("worker", [(KEY, 2)])
    pools.give("worker", KEY, 5)
    assert pools.free(KEY) == 10
    pools.give("worker", KEY, -3)
    assert pools.free(KEY) == 10


# one limit for each client


class Said:
    """A line that keeps what is said on it."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def say(self, *values: object) -> None:
        """Keep it."""
        self.said.append(values)


def test_each_client_has_a_pool_of_its_own_while_it_holds_anything() -> None:
    """Never above for one, whatever another has; and no pool is left for a client that is gone."""
    pools = Pools({KEY: 10}, of_client=3)
    pools.complete()
    line = Said()
    for key, wanted in (("client a", 2), ("client a", 2), ("client b", 5)):
        pools.take("worker 1", line, key, wanted)  # type: ignore[arg-type]
    assert [said[-1] for said in line.said] == [2, 1, 3]
    pools.give("worker 1", "client a", 3)
    pools.gone("worker 1")
    assert list(pools._pools) == [KEY]
    with pytest.raises(KeyError):
        pools.take("worker 1", line, "unknown", 1)  # type: ignore[arg-type]


def test_a_process_remembers_so_many_clients_and_keeps_those_with_connections() -> None:
    """Bounded, and never at the cost of a count that is still needed."""
    from egress.server import leases

    shares = Shares(5, 5)
    line = Said()
    shares.attached(line)  # type: ignore[arg-type]
    shares.granted("client 10.0.0.1", 0)
    busy = shares.of_client("10.0.0.1")
    busy._idle = 1
    assert busy.try_take()
    for number in range(leases._CLIENTS_AT_MOST + 10):
        shares.of_client(f"10.1.{number // 256}.{number % 256}")
    assert len(shares._clients) <= leases._CLIENTS_AT_MOST + 1
    assert shares.of_client("10.0.0.1") is busy
    assert ("client 10.0.0.1", 1) in shares.held()


def test_units_for_a_client_that_is_forgotten_go_back() -> None:
    """They came too late; nobody may keep them."""
    shares = Shares(5, 5)
    line = Said()
    shares.attached(line)  # type: ignore[arg-type]
    shares.granted("client 10.9.9.9", 4)
    assert line.said[-1][1:] == ("client 10.9.9.9", 4)

"""The audit as processes meet it: rows of some of them through the real hub, and what recording costs their traffic.

    python bench/audit_hub.py [--seconds N] [--rate ROWS] [--processes N] [--folder DIR]

1. sustained   all offer rows at a rate in all (20,000 a second); all of them must be in the database at the end
2. traffic     all do requests one after another, each so much work, with two rows and without any: the ratio
3. strict      as 2, each request waiting until its decision is on the disk

A request here is a fixed piece of work (about what the http lane needs for one), so that the ratio is that of the audit
alone. Processes, hub and the disk share the machine: with as many processes as processors, what the hub needs is taken
from the traffic; with one fewer, it has a processor of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
from audit import decision, outcome

from egress.config import AuditConfig, Durability, Limits, ServerConfig, UpstreamConfig
from egress.server import hub
from egress.server.channel import Word, encode, make_pair, send
from egress.server.fetches import HubSecrets
from egress.server.leases import Shares
from egress.server.link import HubLink
from egress.server.names import HubNames
from egress.server.quotas import HubCounting
from egress.server.rows import RowSink

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

# What all processes together may have waiting, as with `audit: queue` at its default.
QUEUE = 10_000
# 16 requests at once in each process.
CLIENTS = 16
_WORK = b"x" * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """What one process did: requests, rows taken, rows turned away at first, and its CPU seconds."""

    requests: int
    rows: int
    waits: int
    cpu: float


def config_in(folder: Path, durability: Durability) -> ServerConfig:
    """As `egress run` has it by default."""
    return ServerConfig(
        listen=("127.0.0.1", 0),
        state_dir=folder,
        audit=AuditConfig(folder / "audit.db", durability=durability),
        ca_dir=folder / "ca",
        upstream=UpstreamConfig(),
        resolve={},
        policies=(),
        limits=Limits(),
        secrets={},
    )


def work(rounds: int) -> None:
    """A request's worth of it."""
    for _ in range(rounds):
        sha256(_WORK).digest()


class Station:
    """A hub in a process of its own, and processes joined to it."""

    def __init__(self, config: ServerConfig, processes: int) -> None:
        self.config = config
        self.processes = processes
        self.ours, its = make_pair()
        self.hub = os.fork()
        if not self.hub:
            self.ours.close()
            os._exit(asyncio.new_event_loop().run_until_complete(hub.serve(its, config)))
        its.close()

    def run(self, play: Callable[[RowSink, int], Awaitable[Run]]) -> list[Run]:
        """Have each process play its part at the same time."""
        ends = []
        for number in range(self.processes):
            its_hub, its = make_pair()
            send(self.ours, encode(Word.LINK, f"worker {number}"), its_hub.fileno())
            told, tell = os.pipe()
            if not os.fork():
                os.write(tell, repr(asyncio.run(_play(self, its, play, number))).encode())
                os._exit(0)
            os.close(tell)
            its.close()
            its_hub.close()
            ends.append(told)
        send(self.ours, encode(Word.LINKED))
        return [_result(end) for end in ends]

    def end(self) -> float:
        """End the hub; the CPU seconds that it took."""
        send(self.ours, encode(Word.END))
        _, status, used = os.wait4(self.hub, 0)
        if status:
            sys.exit("the hub could not record everything")
        return used.ru_utime + used.ru_stime


def _result(end: int) -> Run:
    with os.fdopen(end) as told:
        values: Any = eval(told.read(), {"Run": Run})  # noqa: S307 -- from a process of our own
    os.wait()
    return values


async def _play(
    station: Station, end: socket.socket, play: Callable[[RowSink, int], Awaitable[Run]], number: int
) -> Run:
    sink = RowSink(QUEUE // (station.processes + 1), station.config.audit.flush_interval)
    answers = HubNames({}, 1.0), HubSecrets(1.0)
    link = HubLink(sink, answers, (Shares(0, 0), HubCounting(station.processes)), lambda: None)
    link.attach(end)
    while sink._problem:  # noqa: ASYNC110, SLF001 -- until the hub has said that it records
        await asyncio.sleep(0.01)
    result = await play(sink, number)
    if not await sink.flush(60):
        sys.exit("not everything was recorded")
    link.close()
    return result


def sustained(seconds: float, rate: float, processes: int) -> Callable[[RowSink, int], Awaitable[Run]]:
    """Offer rows at a rate, in little heaps, as requests come."""

    async def play(sink: RowSink, number: int) -> Run:
        began, cpu, done, waits = time.monotonic(), time.process_time(), 0, 0
        each = rate / processes / 2
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(int(passed * each) - done):
                event = decision(done * processes + number, time.time_ns() // 1000)
                while not sink.offer(event):
                    waits += 1
                    await asyncio.sleep(0.002)
                if not sink.offer(outcome(event)):
                    sys.exit("an outcome was turned away")
                done += 1
            await asyncio.sleep(0.002)
        return Run(done, 2 * done, waits, time.process_time() - cpu)

    return play


def traffic(
    seconds: float, rounds: int, processes: int, *, records: bool, strict: bool = False
) -> Callable[..., Awaitable[Run]]:
    """Requests one after another, of several clients."""

    async def play(sink: RowSink, number: int) -> Run:
        began, cpu, done, waits = time.monotonic(), time.process_time(), 0, 0

        async def client() -> None:
            nonlocal done, waits
            while time.monotonic() - began < seconds:
                mine, done = done, done + 1
                if records:
                    event = decision(mine * processes + number, time.time_ns() // 1000)
                    while not sink.offer(event):
                        waits += 1
                        await asyncio.sleep(0.002)
                    if strict and not await sink.commit(10):
                        sys.exit("a decision was not on the disk in time")
                work(rounds)
                if records:
                    sink.offer(outcome(event))
                await asyncio.sleep(0)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return Run(done, 2 * done if records else 0, waits, time.process_time() - cpu)

    return play


def rounds_for(seconds: float) -> int:
    """How often to hash for that much work."""
    began = time.process_time()
    work(2000)
    return max(1, int(2000 * seconds / (time.process_time() - began)))


def measure(
    place: Path, processes: int, play: Callable[..., Awaitable[Run]], durability: Durability = Durability.NORMAL
) -> tuple[int, float, int]:
    """Requests, CPU seconds of the hub for each row, and waits. Every row that was taken must be in the database."""
    place.mkdir()
    station = Station(config_in(place, durability), processes)
    runs = station.run(play)
    cpu = station.end()
    rows = sum(run.rows for run in runs)
    connection = sqlite3.connect(place / "audit.db")
    (found,) = connection.execute(
        "SELECT (SELECT count(*) FROM decisions) + (SELECT count(*) FROM outcomes)"
    ).fetchone()
    connection.close()
    if found != rows:
        sys.exit(f"{rows} rows were taken, {found} are in the database")
    return sum(run.requests for run in runs), cpu / max(rows, 1), sum(run.waits for run in runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20_000, help="rows a second in all")
    parser.add_argument("--processes", type=int, default=2, help="how many judge, besides the hub")
    parser.add_argument("--traffic-seconds", type=float, default=5)
    parser.add_argument("--work-us", type=float, default=400, help="CPU time of a request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where the databases are made (a temporary folder)")
    given = parser.parse_args()
    many, seconds = given.processes, given.traffic_seconds
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        requests, cpu, waits = measure(folder / "rows", many, sustained(given.seconds, given.rate, many))
        print(
            f"sustained  {2 * requests} rows in {given.seconds:.0f} s: {2 * requests / given.seconds:,.0f} rows/s, "
            f"none lost, {waits} waits for room, {cpu * 1e6:.1f} us CPU of the hub a row"
        )
        rounds = rounds_for(given.work_us / 1e6)
        for number in range(given.rounds):
            plain, _, _ = measure(folder / f"without{number}", many, traffic(seconds, rounds, many, records=False))
            with_rows, _, _ = measure(folder / f"with{number}", many, traffic(seconds, rounds, many, records=True))
            strict = traffic(seconds, rounds, many, records=True, strict=True)
            committed, _, _ = measure(folder / f"strict{number}", many, strict, Durability.STRICT)
            print(
                f"traffic    {plain / seconds:,.0f} requests/s without rows, {with_rows / seconds:,.0f} with "
                f"({with_rows / plain:.2f}), {committed / seconds:,.0f} strict ({committed / with_rows:.2f} of normal)"
            )


if __name__ == "__main__":
    main()

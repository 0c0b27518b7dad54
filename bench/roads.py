"""The roads beside each other, and DNS: `python -m bench.roads`, as root.

One proxy behind a gateway, one sandbox, an echo as the server, raw TCP in all cases. In a round the roads take turns,
so that a machine whose speed drifts drifts for all of them. The client is one process of Python, and bounds the rates;
the CPU is that of the proxy's whole process tree for each connection, exchange or question. Ratios are within a round,
median over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import uvloop

from bench.driver.processes import parent_and_cpu, tree
from bench.soaking.clients import A, Sandbox, Wire, expect, socks
from bench.soaking.network import GATEWAY, Network
from bench.soaking.proxy import ROOT, START, Proxy
from bench.soaking.traffic import DATABASE, EVIL, WEB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PORT: Final = 5432
CLIENTS: Final = 8
GREETING: Final = b"hello\n"
PAYLOAD: Final = b"x" * 600
BASE: Final = "CONNECT"


@dataclass(frozen=True, slots=True)
class Took:
    """`rate` a second, `cpu` in microseconds each."""

    rate: float
    cpu: float


async def by_connect(sandbox: Sandbox, _: str) -> Wire:
    """A tunnel by CONNECT."""
    wire = await sandbox.connect(GATEWAY[0], 3128)
    expect((await wire.ask(f"CONNECT {DATABASE}:{PORT} HTTP/1.1\r\nHost: {DATABASE}:{PORT}")).status == 200, "refused")
    return wire


async def by_socks(sandbox: Sandbox, _: str) -> Wire:
    """A tunnel by SOCKS5."""
    wire = await sandbox.connect(GATEWAY[0], 3128)
    expect(await socks(wire, DATABASE, PORT) == 0, "refused")
    return wire


async def redirected(sandbox: Sandbox, address: str) -> Wire:
    """A connection that the gateway redirects, to the address that DNS gave out."""
    return await sandbox.connect(address, PORT)


ROADS: Final[dict[str, Callable[[Sandbox, str], Awaitable[Wire]]]] = {
    BASE: by_connect,
    "SOCKS5": by_socks,
    "transparent": redirected,
}


def cpu(root: int) -> float:
    """CPU seconds of a process and everything below it, so far."""
    stats: dict[int, tuple[int, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(stat.parent.name)] = parent_and_cpu(stat.read_text(errors="replace"))
        except OSError:
            continue
    return sum(stats[pid][1] for pid in tree(root, {pid: parent for pid, (parent, _) in stats.items()}))


async def measured(root: int, seconds: float, work: Callable[[], Awaitable[int]]) -> Took:
    """`work` over and over by some clients at once; it returns how many it did."""
    began, used = time.monotonic(), cpu(root)
    end, count = began + seconds, 0

    async def client() -> None:
        nonlocal count
        while time.monotonic() < end:
            count += await work()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return Took(count / (time.monotonic() - began), (cpu(root) - used) / max(count, 1) * 1e6)


async def rounds(proxy: Proxy, sandbox: Sandbox, times: int, seconds: float) -> dict[str, list[Took]]:
    """Every cell in turn, in each round."""
    found: dict[str, list[Took]] = defaultdict(list)
    address = await sandbox.resolve(DATABASE)
    for number in range(times + 1):
        for name, road in ROADS.items():

            async def new(road: Callable[[Sandbox, str], Awaitable[Wire]] = road) -> int:
                async with await road(sandbox, address) as wire:
                    expect(await wire.reader.readexactly(len(GREETING)) == GREETING, "no greeting")
                return 1

            async def kept(road: Callable[[Sandbox, str], Awaitable[Wire]] = road) -> int:
                async with await road(sandbox, address) as wire:
                    await wire.reader.readexactly(len(GREETING))
                    for _ in range(500):
                        wire.writer.write(PAYLOAD)
                        await wire.reader.readexactly(len(PAYLOAD))
                return 500

            for key, work in ((f"new, {name}", new), (f"kept, {name}", kept)):
                found[key].append(await measured(proxy.pid, seconds, work))
        for key, host, code in (("DNS, allowed", WEB, 0), ("DNS, denied", EVIL, 3)):

            async def question(host: str = host, code: int = code) -> int:
                expect((await sandbox.question(host, A))[0] == code, "another answer")
                return 1

            found[key].append(await measured(proxy.pid, seconds, question))
        if not number:
            found.clear()  # the first round only warms up
    return found


def started(command: list[str], until: bytes) -> float:
    """CPU seconds of a program from its start to its end; it is told to end once it has printed `until`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", env=env)  # noqa: S603
    if until and process.stdout is not None:
        while line := process.stdout.readline():
            if until in line:
                process.terminate()
                break
    out, _ = process.communicate(timeout=60)
    expect(process.returncode == 0, out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starts(folder: Path, times: int) -> tuple[float, float]:
    """Median CPU seconds of `egress exec -- true`, and of `egress run` until it listens and ends."""
    egress = [sys.executable, "-c", START]
    confined, served = [], []
    for number in range(times):
        for name, found in (("exec", confined), ("run", served)):
            state = ["--state-dir", str(folder / f"{name}{number}")]
            if name == "exec":
                found.append(started([*egress, "exec", *state, "--policy", "starter", "--quiet", "--", "true"], b""))
            else:
                command = [*egress, "run", *state, "--policy", "starter", "--listen", "127.0.0.1:0"]
                found.append(started(command, b"listening on"))
    return median(confined), median(served)


def table(found: dict[str, list[Took]]) -> str:
    """As Markdown: medians, and ratios to CONNECT in which more is better."""
    lines = ["| | a second | CPU us | rate, to CONNECT | CPU, to CONNECT |", "|---|---:|---:|---:|---:|"]
    for key, took in found.items():
        kind, name = key.split(", ")
        base = found.get(f"{kind}, {BASE}", [])
        ratios = "| - | - |"
        if base and name != BASE:
            rates = median(own.rate / other.rate for own, other in zip(took, base, strict=True))
            costs = median(other.cpu / own.cpu for own, other in zip(took, base, strict=True))
            ratios = f"| {rates:.2f}x | {costs:.2f}x |"
        rate, cost = median(each.rate for each in took), median(each.cpu for each in took)
        lines.append(f"| {key} | {rate:,.0f} | {cost:,.0f} {ratios}")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each cell")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="egress-roads-") as name, Network(1) as network:
        folder = Path(name)
        with Proxy(network, folder, 1) as proxy:
            proxy.start()
            found = uvloop.run(rounds(proxy, Sandbox(1, network.sandboxes[0]), given.rounds, given.seconds))
        print(table(found))
        confined, served = starts(folder, given.rounds)
        print(
            f"\n`egress exec -- true`: {confined:.2f} s of CPU, {confined / served:.2f}x `egress run` ({served:.2f} s)"
        )


if __name__ == "__main__":
    main()

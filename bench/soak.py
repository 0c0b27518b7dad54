"""The soak: mixed traffic of many sandboxes through the gateway for a long time, and what it leaves behind.

python -m bench.soak --minutes 30 --sandboxes 50

Needs root, iproute2 and nftables; all of it runs in network namespaces of its own, and ends with them. Exit code 0:
every request had the answer that it had to have, nothing leaked, and the audit has it all and verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from bench.soaking import verdict
from bench.soaking.chores import Chores, trusting
from bench.soaking.clients import Sandbox
from bench.soaking.network import Network, NetworkError
from bench.soaking.proxy import UPSTREAM_IDLE, Proxy, ProxyError
from bench.soaking.samples import Sampler
from bench.soaking.told import report
from bench.soaking.traffic import KINDS, World, live

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from bench.soaking.samples import Sample

WORKERS: Final = 2
# Clients and servers need two for each connection.
_DESCRIPTORS: Final = 65_536


async def soak(proxy: Proxy, network: Network, given: argparse.Namespace) -> tuple[list[str], str]:
    """Run all of it: what did not hold, and the report."""
    roots = str(proxy.state / "ca" / "ca.pem")
    theirs = trusting(str(proxy.authority.certificate_file))
    world = World(proxy, trusting(roots), theirs, trusting(roots, "h2"))
    sandboxes = [Sandbox(number, space) for number, space in enumerate(network.sandboxes, 1)]
    sampler = Sampler(proxy, network)
    # Once everything, so that what is loaded or made on first use is there.
    await asyncio.gather(*(world.do(kind, sandboxes[n % len(sandboxes)]) for n, kind in enumerate(KINDS * 3)))
    await asyncio.sleep(UPSTREAM_IDLE + given.rest)
    before = await sampler.take()
    chores = Chores(world, sandboxes, given.minutes * 60, WORKERS)
    began = time.monotonic()
    loaded = await _load(world, sandboxes, sampler, chores, given)
    took = time.monotonic() - began
    await asyncio.sleep(UPSTREAM_IDLE + given.rest)
    after = await sampler.take()
    if given.json:
        text = json.dumps([sample.plain() for sample in sampler.samples], indent=1)
        await asyncio.to_thread(Path(given.json).write_text, text)
    status = await asyncio.to_thread(proxy.stop)
    problems = [f"{kind}: {count} failed, such as {world.examples[kind]}" for kind, count in world.failed.items()]
    problems += verdict.memory(loaded)
    problems += verdict.at_rest(before, after)
    rows = verdict.recorded(proxy.state / "audit.db")
    lost = chores.done["workers killed"] * verdict.LOST_WITH_A_WORKER
    problems += verdict.audit(world.decided, world.unsure, rows, lost)
    try:
        await proxy.tell("audit", "verify")
    except ProxyError as error:
        problems.append(str(error))
    if status:
        problems.append(f"the proxy ended with {status}")
    if "Traceback" in proxy.log():
        problems.append(f"the proxy's log has a traceback: {proxy.log()[-3_000:]}")
    return problems, report(world, chores.done, (before, loaded, after), took, sum(rows.values()))


async def _load(
    world: World, sandboxes: list[Sandbox], sampler: Sampler, chores: Chores, given: argparse.Namespace
) -> list[Sample]:
    """The traffic and the chores; the samples under load."""
    loaded: list[Sample] = []
    end = time.monotonic() + given.minutes * 60
    living = [asyncio.create_task(live(sandbox, world, given.pause)) for sandbox in sandboxes]
    working = asyncio.create_task(chores.run())
    try:
        while time.monotonic() < end:
            await asyncio.sleep(min(given.every, max(0.1, end - time.monotonic())))
            loaded.append(await sampler.take())
            _say(loaded[-1], world)
            if working.done():
                await working
    finally:
        world.stopping = True
        await asyncio.gather(*living)
    await working
    return loaded


@contextlib.contextmanager
def _folder(kept: str | None) -> Iterator[Path]:
    if kept is not None:
        Path(kept).mkdir(mode=0o700)
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="egress-soak-") as folder:
        yield Path(folder)


def _say(sample: Sample, world: World) -> None:
    usages = ", ".join(
        f"{name} {each.private:.1f} MiB {each.descriptors} fd" for name, each in sample.processes.items()
    )
    did = f"{sum(world.done.values())} done, {sum(world.failed.values())} failed"
    print(f"{sample.at:6.0f} s  {did}; {usages}; tracked {sample.tracked}", flush=True)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(1)  # unwinds, and so removes the namespaces


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sandboxes", type=int, default=50, help="1 to 1000")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between what one sandbox does, on average")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples")
    parser.add_argument("--rest", type=float, default=12.0, help="seconds until what is idle is closed and forgotten")
    parser.add_argument("--keep", metavar="DIR", help="a new folder for everything, the audit and the logs, that stays")
    parser.add_argument("--json", help="a file for the samples")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, _DESCRIPTORS)), hard))
    try:
        with (
            _folder(given.keep) as folder,
            Network(given.sandboxes) as network,
            Proxy(network, folder, WORKERS) as proxy,
        ):
            proxy.start()
            problems, told = asyncio.run(soak(proxy, network, given))
    except (NetworkError, ProxyError) as error:
        print(f"the soak could not be run: {error}", file=sys.stderr)
        return 1
    print(told)
    print("\n".join(["", "did not hold:", *problems] if problems else ["", "all of it held"]))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

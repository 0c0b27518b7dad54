"""Samples of what could leak: of each process, of the files, of the kernel, and what the proxy itself tells."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.driver.processes import tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.soaking.network import Network
    from bench.soaking.proxy import Proxy

_MIB: Final = 1024.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process. `private` is its anonymous memory, that which is shared since a fork included, in MiB."""

    pid: int
    rss: float
    pss: float
    private: float
    descriptors: int
    threads: int
    tasks: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment: `at` is seconds since the beginning, `files` in bytes."""

    at: float
    processes: dict[str, Usage]
    files: dict[str, int]
    tracked: int
    nft: int
    told: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def _usage(pid: int, tasks: float | None) -> Usage:
    folder = Path(f"/proc/{pid}")
    memory = dict(re.findall(r"^(\w+): +(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE))
    rss, pss, private = (int(memory[key]) / _MIB for key in ("Rss", "Pss", "Anonymous"))
    descriptors, threads = (sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task"))
    return Usage(pid, rss, pss, private, descriptors, threads, None if tasks is None else int(tasks))


def processes(root: int, told: Mapping[str, float]) -> dict[str, Usage]:
    """The proxy's processes by name; one that is ending just now is left out."""
    names: dict[int, str] = {}
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(errors="replace")
        except OSError:
            continue
        pid = int(stat.parent.name)
        names[pid] = text.partition("(")[2].rpartition(")")[0]
        parents[pid] = int(text.rpartition(")")[2].split()[1])
    found: dict[str, Usage] = {}
    for pid in tree(root, parents):
        name = "supervisor" if pid == root else names.get(pid, "?").removeprefix("egress ")
        try:
            found[name] = _usage(pid, told.get(f'egress_tasks{{process="{name}"}}'))
        except (OSError, KeyError):
            continue
    return found


class Sampler:
    """Takes samples of one proxy and its gateway."""

    def __init__(self, proxy: Proxy, network: Network) -> None:
        self._proxy, self._network = proxy, network
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    async def take(self) -> Sample:
        """One more."""
        told = await self._proxy.metrics()
        state = self._proxy.state
        files = {path.name: path.stat().st_size for path in sorted(state.glob("*.db*")) if path.exists()}
        kept = {
            name: value
            for name, value in told.items()
            if name.startswith(("egress_audit", "egress_open", "egress_conn"))
        }
        kept["decisions"] = sum(value for name, value in told.items() if name.startswith("egress_decisions_total"))
        at = round(time.monotonic() - self._began, 1)
        usages = processes(self._proxy.pid, told)
        self.samples.append(Sample(at, usages, files, self._network.tracked(), self._rules(), kept))
        return self.samples[-1]

    def _rules(self) -> int:
        """How long the gateway's rules are, sets and their elements with them, without what counters say."""
        listed = subprocess.run(  # noqa: S603 - of nftables
            self._network.gateway.command("nft", "list", "ruleset"), capture_output=True, text=True, check=True
        )
        return len(re.sub(r"packets \d+ bytes \d+", "", listed.stdout))

"""Whether it held: what failed, what leaked, and whether the audit has what was decided.

1. Memory: the median of the last quarter beside that of the first, of each process that lived through both. More than
   `MEMORY_MIB` and `MEMORY_SHARE` is a leak. A run of less than `MEMORY_SECONDS` says nothing of it: caches still fill.
2. Descriptors, tasks, connections that the kernel tracks, and rules: idle at the end beside idle before the load, with
   every kind of work done once before that.
3. The audit: for each host and verdict as many decisions as the clients know of. Of work that failed or was cut off
   nobody knows how far it came, and a process that is killed takes the rows of its last milliseconds with it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.soaking.samples import Sample, Usage

MEMORY_MIB: Final = 3.0
MEMORY_SHARE: Final = 0.1
MEMORY_SECONDS: Final = 300.0
# Of each, what may be more than before: a connection to the audit's file, a name server's socket, a thread that waits.
SLACK: Final = {"descriptors": 4, "threads": 4, "tasks": 3}
TRACKED_SLACK: Final = 10
LOST_WITH_A_WORKER: Final = 30


def quarters(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The first and the last quarter of them."""
    size = max(1, len(samples) // 4)
    return samples[:size], samples[-size:]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """What a value grows by in an hour: the median over all pairs (Theil-Sen), so that single peaks do not count."""
    pairs = [
        (later - value) / (then - at)
        for n, (at, value) in enumerate(points)
        for then, later in points[n + 1 :]
        if then > at
    ]
    return median(pairs) * 3600 if pairs else 0.0


def lived(samples: Sequence[Sample]) -> list[str]:
    """Processes that were the same from the first of them to the last."""
    first, last = samples[0].processes, samples[-1].processes
    return [name for name, usage in first.items() if name in last and last[name].pid == usage.pid]


def of(samples: Sequence[Sample], name: str, key: str) -> float:
    """The median of one value of one process."""
    values = [getattr(sample.processes[name], key) for sample in samples if name in sample.processes]
    return median(value or 0 for value in values) if values else 0.0


def memory(samples: Sequence[Sample]) -> Iterator[str]:
    """What leaks memory."""
    if not samples or samples[-1].at - samples[0].at < MEMORY_SECONDS:
        return
    first, last = quarters(samples)
    for name in lived(samples):
        before, after = of(first, name, "private"), of(last, name, "private")
        if after - before > max(MEMORY_MIB, before * MEMORY_SHARE):
            yield f"memory of {name}: {before:.1f} MiB in the first quarter, {after:.1f} in the last"


def at_rest(before: Sample, after: Sample) -> Iterator[str]:
    """What is left when nothing happens any more, and was not there before."""
    for name, usage in after.processes.items():
        was: Usage | None = before.processes.get(name)
        for key, slack in SLACK.items() if was is not None else ():
            then, now = getattr(was, key) or 0, getattr(usage, key) or 0
            if now > then + slack:
                yield f"{key} of {name} at rest: {then} before, {now} after"
    if after.tracked > before.tracked + TRACKED_SLACK:
        yield f"connections tracked by the kernel at rest: {before.tracked} before, {after.tracked} after"
    if after.nft != before.nft:
        yield f"the gateway's rules: {before.nft} characters before, {after.nft} after"
    for name, value in after.told.items():
        if value and name.startswith(("egress_connections", "egress_open", "egress_audit_refused")):
            yield f"{name} at rest: {value:.0f}"


def recorded(path: Path) -> dict[tuple[str, str], int]:
    """Decisions in the audit by host and verdict; questions together."""
    asked = "SELECT iif(protocol = 'dns', 'dns', host), verdict, sum(count) FROM decisions GROUP BY 1, 2"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return {(host, verdict): count for host, verdict, count in database.execute(asked)}


def audit(
    decided: Mapping[tuple[str, str], int], unsure: Counter[str], rows: Mapping[tuple[str, str], int], lost: int
) -> Iterator[str]:
    """Where the audit has not what the clients saw. `lost`: rows that dying processes may have taken with them."""
    for (host, verdict), count in decided.items():
        found = rows.get((host, verdict), 0)
        if not count - lost <= found <= count + unsure[host]:
            yield f"the audit has {found} times {verdict} for {host}, the clients saw {count} (unsure {unsure[host]})"

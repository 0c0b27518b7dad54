"""Figures beside the cells: idle tunnels, memory for a big body, many rules, start, the audit's rows."""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import audit, decide
from bench.driver import load
from bench.driver.cells import Cell, cell
from bench.driver.contenders import Lane, egress
from bench.driver.field import say
from bench.driver.machine import most_tunnels
from bench.driver.origin import SIZES
from bench.driver.processes import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.driver.contenders import Contender
    from bench.driver.field import Field
    from bench.driver.processes import Program

TUNNELS: Final = 10_000
RULES: Final = (10, 1_000, 100_000)
_ENTRY: Final = "host{number}.example{group}.com\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what, of whom, how much, in words that go into a table."""

    table: str
    cells: tuple[str, ...]
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done: shorter for a quick run."""

    tunnels: int
    body: str
    audit_requests: int
    starts: int
    seconds: float


FULL: Final = Extent(TUNNELS, "1g", 100_000, 5, 3.0)
QUICK: Final = Extent(2_000, "100m", 10_000, 1, 1.0)


def _running(contender: Contender) -> Program:
    if contender.program is None:
        raise ProgramError(f"{contender.name} is no program")
    return contender.program


def _peak_over(program: Program, work: Callable[[], load.Sample]) -> tuple[float, float, load.Sample]:
    """Memory before, and the most while the work ran, in MiB, sampled every 50 ms; and what the work gives."""
    before = most = program.memory_mib()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        while not done.done():
            most = max(most, program.memory_mib())
            time.sleep(0.05)
    return before, most, done.result()


def _hold(field: Field, contender: Contender, count: int) -> tuple[float, float, load.Sample]:
    """Memory before, and while that many tunnels are held."""
    program, held = _running(contender), [0.0]
    before = program.memory_mib()

    def look() -> None:
        held[0] = program.memory_mib()

    words = [*contender.proxy, "-p", str(field.site.origin.tls_port), "-c", str(count), "-i"]
    sample = load.run(field.generator, words, contender.cpu, 1.0, held=look)
    return before, held[0], sample


def idle(field: Field, extent: Extent) -> Iterator[Row]:
    """Tunnels held without a byte: the memory that they take."""
    count = min(extent.tunnels, most_tunnels())
    for contender in [each for each in field.contenders if Lane.TUNNEL in each.lanes and each.program is not None]:
        before, held, sample = _hold(field, contender, count)
        kib = (held - before) * 1024 / sample.held if sample.held else None
        shown = f"{kib:.1f} KiB" if kib is not None else sample.error
        cells = (contender.name, f"{sample.held:,}", f"{before:.0f} MiB", f"{held:.0f} MiB", shown)
        at_ten_thousand = before + kib * TUNNELS / 1024 if kib is not None and sample.held == count else None
        yield Row("idle", cells, at_ten_thousand)


def big_bodies(field: Field, extent: Extent) -> Iterator[Row]:
    """One body each way on one connection: the memory over idle."""
    size = SIZES[extent.body]
    for lane, name in ((Lane.TUNNEL, "egress, tunnel lane"), (Lane.INSPECTED, "egress, http lane")):
        contender = field.named(name)
        if contender is None:
            continue
        for way, arguments in (
            ("down", ("-u", f"/{extent.body}", "-l", str(size))),
            ("up", ("-u", "/sink", "-b", str(size))),
        ):
            words = Cell(lane, way, ("-c", "1", "-q", "1", *arguments)).command(contender, field.site.origin)
            work = partial(load.run, field.generator, words, contender.cpu, 60.0)
            before, most, sample = _peak_over(_running(contender), work)
            whole = sample.answered == 1
            cells = (name, way, f"{size / 1e9:g} GB", f"{before:.1f} MiB", f"{most - before:.1f} MiB")
            yield Row("bodies", cells, most - before if whole else None)


def many_rules(field: Field, extent: Extent) -> Iterator[Row]:
    """The http lane behind a policy of that many entries: start, memory, CPU for a request."""
    kept = cell(Lane.INSPECTED, "kept connections")
    for count in RULES:
        name = f"egress, {count:,} rules"
        listed = field.site.place(name) / "hosts.txt"
        listed.write_text("".join(_ENTRY.format(number=number, group=number % 97) for number in range(count)))
        more = "  - allow: {file: hosts.txt}\n"
        try:
            contender = egress.start(field.site, name, egress.INSPECT, frozenset({Lane.INSPECTED}), more=more)
        except ProgramError as error:
            yield Row("rules", (f"{count:,}", str(error), "", ""))
            continue
        program = _running(contender)
        try:
            words = [*kept.command(contender, field.site.origin), "-w", "0.3"]
            cost = load.run(field.generator, words, contender.cpu, extent.seconds).cpu_us
            memory = f"{program.memory_mib():.0f} MiB"
            shown = f"{cost:.0f} us" if cost is not None else "-"
            yield Row("rules", (f"{count:,}", f"{program.started_in:.2f} s", memory, shown), cost)
        finally:
            program.stop()


def decisions() -> Iterator[Row]:
    """The core's own time for a decision, by real rules of four kinds."""
    compiled = {size: decide.policy(size) for size in decide.SIZES}
    for size, (name, request) in decide.medians(compiled, 50).items():
        yield Row("decide", (f"{size:,}", f"{name:.2f} us", f"{request:.2f} us"), max(name, request))


def starts(field: Field, extent: Extent) -> Iterator[Row]:
    """From the command to the first accepted connection, with a state folder that is there already."""
    took: list[float] = []
    for number in range(extent.starts + 1):
        lanes = frozenset({Lane.INSPECTED})
        contender = egress.start(field.site, "egress, start", egress.INSPECT, lanes)
        program = _running(contender)
        program.stop()
        took += [program.started_in] if number else []  # the first one makes the CA
    middle = statistics.median(took)
    yield Row("start", (f"{middle:.2f} s", f"{min(took):.2f} s", f"{max(took):.2f} s"), middle)


def audit_rows(extent: Extent) -> Iterator[Row]:
    """Rows that the audit's writer records each second, none lost."""
    with tempfile.TemporaryDirectory(prefix="egress-bench-") as folder:
        wall, cpu = audit.record(Path(folder) / "audit.db", extent.audit_requests)
    rows = 2 * extent.audit_requests
    yield Row("audit", (f"{rows:,}", f"{rows / wall:,.0f}", f"{cpu / rows * 1e6:.1f} us"), rows / wall)


def memory(field: Field, before: dict[str, float]) -> Iterator[Row]:
    """What each contender holds after the rounds."""
    for contender in field.contenders:
        if contender.program is not None:
            now = contender.program.memory_mib()
            yield Row("memory", (contender.name, f"{before.get(contender.name, 0.0):.0f} MiB", f"{now:.0f} MiB"), now)


def all_rows(field: Field, extent: Extent, until: float) -> list[Row]:
    """Every extra, as far as the time goes."""
    rows: list[Row] = []
    for name, step in (
        ("start", lambda: starts(field, extent)),
        ("decisions", decisions),
        ("audit rows", lambda: audit_rows(extent)),
        ("big bodies", lambda: big_bodies(field, extent)),
        ("idle tunnels", lambda: idle(field, extent)),
        ("many rules", lambda: many_rules(field, extent)),
    ):
        if time.monotonic() > until:
            say(f"no time for {name}")
            continue
        say(name)
        try:
            rows += step()
        except ProgramError as error:
            say(f"  {error}")
    return rows

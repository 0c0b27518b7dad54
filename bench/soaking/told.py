"""The report of a soak: tables for docs/performance.md, and what was done how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.soaking.verdict import lived, of, quarters, slope

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    from bench.soaking.samples import Sample
    from bench.soaking.traffic import World


def report(
    world: World, chores: Counter[str], samples: tuple[Sample, Sequence[Sample], Sample], took: float, rows: int
) -> str:
    """All of it, as Markdown. `samples`: idle before, under load, idle after."""
    before, loaded, after = samples
    return "\n".join(
        [
            f"\n{took / 60:.1f} minutes, {sum(world.done.values()):,} pieces of work, {rows:,} decisions in the audit",
            "",
            *_processes(before, loaded, after),
            "",
            *_others(before, loaded, after),
            "",
            *_kinds(world),
            "",
            *(f"- {name}: {count}" for name, count in chores.items()),
        ]
    )


def _processes(before: Sample, loaded: Sequence[Sample], after: Sample) -> Iterator[str]:
    first, last = quarters(loaded)
    yield (
        "| process | memory MiB: first quarter | last | an hour | descriptors: idle before | first | last | idle after "
        "| tasks: idle before | after |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name in lived(loaded):
        grown = slope([(each.at, each.processes[name].private) for each in loaded if name in each.processes])
        was, now = before.processes.get(name), after.processes.get(name)
        cells = [
            f"{of(first, name, 'private'):.1f}",
            f"{of(last, name, 'private'):.1f}",
            f"{grown:+.1f}",
            "-" if was is None else str(was.descriptors),
            f"{of(first, name, 'descriptors'):.0f}",
            f"{of(last, name, 'descriptors'):.0f}",
            "-" if now is None else str(now.descriptors),
            "-" if was is None or was.tasks is None else str(was.tasks),
            "-" if now is None or now.tasks is None else str(now.tasks),
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _others(before: Sample, loaded: Sequence[Sample], after: Sample) -> Iterator[str]:
    yield "| | idle before | first sample | last | idle after |"
    yield "|---|---:|---:|---:|---:|"
    four = (before, loaded[0], loaded[-1], after)
    yield f"| connections that the kernel tracks | {' | '.join(str(each.tracked) for each in four)} |"
    for name in sorted({name for each in four for name in each.files}):
        yield f"| `{name}`, MB | {' | '.join(f'{each.files.get(name, 0) / 1e6:.1f}' for each in four)} |"


def _kinds(world: World) -> Iterator[str]:
    yield "| work | as expected | cut off by a killed worker | wrong |"
    yield "|---|---:|---:|---:|"
    for name in sorted({*world.done, *world.excused, *world.failed}):
        yield f"| {name} | {world.done[name]:,} | {world.excused[name]} | {world.failed[name]} |"

"""The benchmarks: our lanes and the peers in turn, in front of one origin.

python -m bench.run              every contender, several rounds; writes docs/performance.md; at most 25 minutes
python -m bench.run --quick      one short round, printed; at most 4 minutes
python -m bench.run --check      ours and Squid only, beside bench/recorded.json; exit code 1 at a loss of a quarter
python -m bench.run --record     the same, and records what it finds
python -m bench.run --write      writes docs/performance.md from the last run
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from bench.driver import check, document, extras
from bench.driver.cells import CELLS
from bench.driver.field import OTHERS, OURS, SQUID, Field, say
from bench.driver.installing import CACHE, ROOT, fetch_peers
from bench.driver.machine import description
from bench.driver.report import Report
from bench.driver.rounds import run_rounds

if TYPE_CHECKING:
    from types import FrameType

DOCUMENT: Final = ROOT / "docs" / "performance.md"
RECORDED: Final = ROOT / "bench" / "recorded.json"
LAST: Final = CACHE / "last-run.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run. No round begins that would end after `rounds_until`, no extra begins after `extras_until`.

    Both are seconds from the beginning.
    """

    rounds: int
    window: float
    rounds_until: float
    extras_until: float
    extent: extras.Extent


FULL: Final = Plan(3, 1.5, 18 * 60, 23 * 60, extras.FULL)
QUICK: Final = Plan(1, 0.5, 150, 210, extras.QUICK)
CHECK: Final = Plan(5, 1.5, 6 * 60, 0, extras.QUICK)


def measure(plan: Plan, *, quick: bool) -> Report:
    """Run everything."""
    began = time.monotonic()
    fetch_peers(all_of_them=True)
    with Field.open() as field:
        for starts in (OURS, SQUID, OTHERS):
            field.enter(starts)
        # Two contenders that are one program in two roles have a comma in their names.
        versions = {each.name.split(",")[0]: each.version for each in field.contenders if each.program}
        versions["nginx, the origin,"] = next(each.version for each in field.contenders if not each.program)
        before = {each.name: each.program.memory_mib() for each in field.contenders if each.program}
        results = run_rounds(field, CELLS, plan.rounds, plan.window, began + plan.rounds_until)
        rows = list(extras.memory(field, before))
        rows += extras.all_rows(field, plan.extent, began + plan.extras_until)
        rounds = max(len(samples) for row in results.samples.values() for samples in row.values())
        return Report(description(), rounds, plan.window, quick, versions, field.absent, results, tuple(rows))


def guard(plan: Plan) -> dict[str, float | None]:
    """The watched ratios now."""
    began = time.monotonic()
    fetch_peers(all_of_them=False)
    cells = list({each.cell.key: each.cell for each in check.WATCHED}.values())
    with Field.open() as field:
        field.contenders.clear()  # the origin itself is of no interest here
        field.enter(OURS)
        field.enter(SQUID)
        return check.ratios(run_rounds(field, cells, plan.rounds, plan.window, began + plan.rounds_until))


def checked(*, record: bool) -> int:
    """Print the comparison; the exit code."""
    now = guard(CHECK)
    missing = [title for title, found in now.items() if found is None]
    if record and missing:
        say(f"nothing is recorded: not measured were {', '.join(missing)}")
        return 1
    if record:
        check.write(RECORDED, now, description())
    lines = check.compare(check.read(RECORDED), now)
    print(check.table(lines))
    return 1 if any(line.fails for line in lines) else 0


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(1)  # unwinds, and so ends what was started


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--check", "--record", "--write"):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    if given.check or given.record:
        return checked(record=given.record)
    if given.write and not given.quick:
        document.write(DOCUMENT, Report.read(LAST))
        return 0
    began = time.monotonic()
    report = measure(QUICK if given.quick else FULL, quick=given.quick)
    report.write(LAST)
    for name, part in document.sections(report).items():
        print(f"\n## {name}\n\n{part}")
    if given.write or not given.quick:
        document.write(DOCUMENT, report)
    say(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

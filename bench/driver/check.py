"""The guard against decay: this run's ratios of ours to Squid beside the recorded ones. Pure, but for the file.

1. A ratio is ours / Squid within a round, more is better, median over the rounds.
2. A ratio that fell to three quarters of the recorded one or less fails; so does one that could not be measured.
3. What is not recorded yet passes, and is said.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.driver.cells import cell
from bench.driver.contenders import Lane
from bench.driver.figures import Measure, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.driver.cells import Cell
    from bench.driver.rounds import Results

LOSS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Watched:
    """A ratio that is watched."""

    title: str
    cell: Cell
    measure: Measure
    ours: str
    theirs: str


_TUNNEL: Final = ("egress, tunnel lane", "squid")
_HTTP: Final = ("egress, http lane", "squid, ssl-bump")
WATCHED: Final = (
    Watched("tunnel, kept connections, answers/s", cell(Lane.TUNNEL, "kept connections"), Measure.RATE, *_TUNNEL),
    Watched("tunnel, CPU per MB", cell(Lane.TUNNEL, "GET 100 MB"), Measure.CPU_MB, *_TUNNEL),
    Watched("inspected, kept connections, answers/s", cell(Lane.INSPECTED, "kept connections"), Measure.RATE, *_HTTP),
    Watched("inspected, new connections/s", cell(Lane.INSPECTED, "new connections"), Measure.RATE, *_HTTP),
    Watched("inspected, CPU per MB", cell(Lane.INSPECTED, "GET 100 MB"), Measure.CPU_MB, *_HTTP),
    Watched(
        "plain, kept connections, answers/s",
        cell(Lane.PLAIN, "kept connections"),
        Measure.RATE,
        "egress, http lane",
        "squid",
    ),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A watched ratio now and as recorded. `loss`: the share lost, negative for a gain."""

    title: str
    recorded: float | None
    now: float | None

    @property
    def loss(self) -> float | None:
        """The share of the recorded ratio that is gone."""
        if self.recorded is None or self.now is None:
            return None
        return 1 - self.now / self.recorded

    @property
    def fails(self) -> bool:
        """Whether this one fails the check."""
        if self.recorded is None:
            return False
        # Rounded, so that a loss of exactly a quarter is one in floating point too.
        return self.loss is None or round(self.loss, 9) >= LOSS


def ratios(results: Results) -> dict[str, float | None]:
    """The watched ratios of a run."""
    return {
        each.title: ratio(results.of(each.cell.key, each.ours), results.of(each.cell.key, each.theirs), each.measure)
        for each in WATCHED
    }


def compare(recorded: Mapping[str, float], now: Mapping[str, float | None]) -> list[Line]:
    """A line for each ratio that is recorded or measured."""
    titles = [*now, *(title for title in recorded if title not in now)]
    return [Line(title, recorded.get(title), now.get(title)) for title in titles]


def table(lines: Sequence[Line]) -> str:
    """The lines for a terminal."""
    rows = [f"{'ours / squid, more is better':<42}{'recorded':>10}{'now':>10}{'loss':>8}"]
    for line in lines:
        recorded, now = (f"{each:.2f}" if each is not None else "-" for each in (line.recorded, line.now))
        loss = f"{line.loss:.0%}" if line.loss is not None else "-"
        rows.append(f"{line.title:<42}{recorded:>10}{now:>10}{loss:>8}{'  FAILED' if line.fails else ''}")
    return "\n".join(rows)


def read(path: Path) -> dict[str, float]:
    """The recorded ratios; none if nothing was recorded."""
    if not path.exists():
        return {}
    return {title: float(found) for title, found in json.loads(path.read_text())["ratios"].items()}


def write(path: Path, now: Mapping[str, float | None], machine: Mapping[str, str]) -> None:
    """Record these."""
    found = {title: round(each, 3) for title, each in now.items() if each is not None}
    path.write_text(json.dumps({"machine": dict(machine), "ratios": found}, indent=2) + "\n")

"""Rounds: every cell over every contender, in turn, again and again, until there are enough or the time is up.

The contenders take turns within a cell, and begin with another one in each round, so that a machine whose speed drifts
drifts for all of them. What is compared is always of one round.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final, Self

from bench.driver import load
from bench.driver.field import say
from bench.driver.load import Sample
from bench.driver.processes import ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.driver.cells import Cell
    from bench.driver.field import Field

_WARM_UP: Final = 0.2


@dataclass(slots=True)
class Results:
    """The samples by cell and contender, one for each round; None where there was none."""

    samples: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)

    def of(self, cell: str, contender: str) -> list[Sample | None]:
        """A contender's samples of a cell."""
        return self.samples.get(cell, {}).get(contender, [])

    def add(self, cell: str, contender: str, sample: Sample | None) -> None:
        """Note one."""
        self.samples.setdefault(cell, {}).setdefault(contender, []).append(sample)

    def as_json(self) -> dict[str, dict[str, list[dict[str, object] | None]]]:
        """For a file."""
        return {
            cell: {name: [asdict(each) if each else None for each in found] for name, found in row.items()}
            for cell, row in self.samples.items()
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Mapping[str, list[dict[str, object] | None]]]) -> Self:
        """From a file."""
        samples = {
            cell: {name: [Sample(**each) if each else None for each in found] for name, found in row.items()}  # type: ignore[arg-type]
            for cell, row in read.items()
        }
        return cls(samples)


def _measure(field_: Field, cell: Cell, name: str, seconds: float) -> Sample | None:
    contender = field_.named(name)
    if contender is None:
        return None
    words = [*cell.command(contender, field_.site.origin), "-w", str(min(_WARM_UP, seconds / 3))]
    try:
        sample = load.run(field_.generator, words, contender.cpu, seconds)
        contender.cpu()  # raises if it ended in the middle
    except ProgramError as error:
        say(f"  {cell.key}: {name}: {error}")
        field_.lose(name, str(error))
        return None
    if sample.failed or sample.error:
        say(f"  {cell.key}: {name}: {sample.failed} failed, {sample.error}")
    return sample


def run_round(field_: Field, cells: Sequence[Cell], results: Results, turn: int, seconds: float) -> None:
    """Every cell over every contender, once."""
    for cell in cells:
        names = [contender.name for contender in field_.contenders if cell.applies(contender)]
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            results.add(cell.key, name, _measure(field_, cell, name, seconds))


def run_rounds(field_: Field, cells: Sequence[Cell], rounds: int, seconds: float, until: float) -> Results:
    """As many rounds as asked for, fewer if the next one would not end before `until`; one at least."""
    results = Results()
    for turn in range(rounds):
        began = time.monotonic()
        say(f"round {turn + 1} of {rounds}")
        run_round(field_, cells, results, turn, seconds)
        took = time.monotonic() - began
        if turn + 1 < rounds and time.monotonic() + took > until:
            say(f"  {took:.0f} s; no time for another")
            break
    return results

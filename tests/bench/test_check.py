"""The guard against decay: what fails it, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.driver.check import WATCHED, Line, compare, ratios, read, table, write
from bench.driver.load import Sample
from bench.driver.rounds import Results

if TYPE_CHECKING:
    from pathlib import Path


def sample(rate: float, cpu_seconds: float = 0.5) -> Sample:
    """One second of so many answers and 100 MB."""
    return Sample(1.0, int(rate), 0, 100_000_000, 50.0, 90.0, cpu_seconds)


def run_with(factor: float) -> Results:
    """A run in which ours is `factor` as good as Squid in everything."""
    results = Results()
    for each in WATCHED:
        for _ in range(3):
            results.add(each.cell.key, each.ours, sample(1_000 * factor, 0.5 / factor))
            results.add(each.cell.key, each.theirs, sample(1_000))
    return results


LOSSES = [
    (0.00, False),
    (0.24, False),
    (0.25, True),
    (0.26, True),
    (-0.50, False),
]


@pytest.mark.parametrize(("loss", "fails"), LOSSES)
def test_a_loss_of_a_quarter_fails_and_one_of_24_percent_passes(loss: float, *, fails: bool) -> None:
    """From the samples of a run to the verdict, for every watched ratio."""
    recorded = {title: found for title, found in ratios(run_with(2.0)).items() if found is not None}
    assert len(recorded) == len(WATCHED)
    lines = compare(recorded, ratios(run_with(2.0 * (1 - loss))))
    assert [line.fails for line in lines] == [fails] * len(WATCHED), lines


def test_what_is_recorded_and_not_measured_fails() -> None:
    """A peer or a lane that no longer starts is no reason to pass."""
    assert [line.fails for line in compare({"a": 1.0, "b": 2.0}, {"a": None})] == [True, True]


def test_what_is_measured_and_not_recorded_passes_and_is_shown() -> None:
    """A new ratio waits for the next recording."""
    (line,) = compare({}, {"new": 3.0})
    assert not line.fails
    assert "new" in table([line])


def test_the_table_shows_both_ratios_the_loss_and_which_failed() -> None:
    """One line for each ratio; only the failed ones say so."""
    shown = table([Line("fast", 2.0, 1.0), Line("steady", 2.0, 1.9)]).splitlines()
    assert shown[1].split() == ["fast", "2.00", "1.00", "50%", "FAILED"]
    assert shown[2].split() == ["steady", "2.00", "1.90", "5%"]


def test_one_bad_round_does_not_decide() -> None:
    """The median over the rounds is compared."""
    results = run_with(2.0)
    watched = WATCHED[0]
    results.samples[watched.cell.key][watched.ours][1] = sample(1)
    assert ratios(results)[watched.title] == pytest.approx(2.0)


def test_recorded_ratios_are_read_back(tmp_path: Path) -> None:
    """What could not be measured is left out; no file is no ratios."""
    path = tmp_path / "recorded.json"
    assert read(path) == {}
    write(path, {"a": 1.23456, "b": None}, {"processor": "x"})
    assert read(path) == {"a": 1.235}

"""What the samples say: medians over the rounds, and ratios of samples of one round. Pure.

Every ratio is written so that more is better for the one it speaks of: rates are divided by the other's, costs and
waits divide the other's.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.driver.load import Sample
    from bench.driver.rounds import Results


class Measure(StrEnum):
    """What is read off a sample."""

    RATE = "answers/s"
    CPU = "CPU us"
    MB_RATE = "MB/s"
    CPU_MB = "CPU ms/MB"
    P50 = "p50 us"
    P99 = "p99 us"

    @property
    def more_is_better(self) -> bool:
        """Whether it is a rate."""
        return self in {Measure.RATE, Measure.MB_RATE}


def value(sample: Sample, measure: Measure) -> float | None:
    """One figure of a sample; None if nothing was carried."""
    match measure:
        case Measure.RATE:
            return sample.per_second or None
        case Measure.CPU:
            return sample.cpu_us
        case Measure.MB_RATE:
            return sample.bytes_moved / sample.seconds / 1e6 or None
        case Measure.CPU_MB:
            return sample.cpu_ms_per_mb
        case Measure.P50:
            return sample.p50_us if sample.answered else None
        case Measure.P99:
            return sample.p99_us if sample.answered else None


def median(found: Iterable[float | None]) -> float | None:
    """The median of what there is."""
    there = [each for each in found if each is not None]
    return statistics.median(there) if there else None


def figure(samples: Sequence[Sample | None], measure: Measure) -> float | None:
    """The median over the rounds."""
    return median(value(sample, measure) for sample in samples if sample is not None)


def ratio(ours: Sequence[Sample | None], theirs: Sequence[Sample | None], measure: Measure) -> float | None:
    """The median over the rounds of the ratio within a round; more is better for ours."""

    def of_round(our: Sample | None, their: Sample | None) -> float | None:
        if our is None or their is None:
            return None
        left, right = value(our, measure), value(their, measure)
        if not left or not right:
            return None
        return left / right if measure.more_is_better else right / left

    return median(of_round(our, their) for our, their in zip(ours, theirs, strict=False))


@dataclass(frozen=True, slots=True)
class Best:
    """The best peer in a cell."""

    name: str
    value: float


def best_peer(results: Results, cell: str, measure: Measure, ours: frozenset[str]) -> Best | None:
    """The best of those that are not ours, by the median; one that failed requests is no best."""
    found: list[Best] = []
    for name, samples in results.samples.get(cell, {}).items():
        if name == "direct" or name in ours or any(each is not None and each.failed for each in samples):
            continue
        here = figure(samples, measure)
        if here is not None:
            found.append(Best(name, here))
    pick = max if measure.more_is_better else min
    return pick(found, key=lambda best: best.value) if found else None

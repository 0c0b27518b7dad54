"""Metrics as text: the format of Prometheus (0.0.4), and OpenMetrics 1.0.

Names of metrics and labels are our own; a label's value is escaped whatever it is. The two formats differ in where a
counter's `_total` and an info's `_info` stand, and in the last line.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Type(StrEnum):
    """What a family is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    INFO = "info"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: what is added to the family's name, labels, and the value."""

    value: float
    labels: Mapping[str, str]
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its `name` without `_total` and `_info`, one sentence on it, and its samples."""

    name: str
    type: Type
    help: str
    samples: tuple[Sample, ...]

    @property
    def full_name(self) -> str:
        """As it is written in a query."""
        return self.name + {Type.COUNTER: "_total", Type.INFO: "_info"}.get(self.type, "")


def single(name: str, kind: Type, text: str, value: float | None, **labels: str) -> Family:
    """A family of one sample; of none where the value is not known."""
    return Family(name, kind, text, () if value is None else (Sample(value, labels),))


def many(name: str, kind: Type, text: str, values: Iterable[tuple[Mapping[str, str], float]]) -> Family:
    """A family of a sample for each set of labels."""
    return Family(name, kind, text, tuple(Sample(value, labels) for labels, value in values))


def histogram(name: str, text: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> Family:
    """A family of one histogram. `counts`: how many fell up to each bound and beyond the one before, then the rest."""
    samples, below = [], 0
    for bound, count in zip((*map(float, bounds), float("inf")), counts, strict=True):
        below += count
        samples.append(Sample(below, {"le": _number(bound)}, "_bucket"))
    return Family(name, Type.HISTOGRAM, text, (*samples, Sample(below, {}, "_count"), Sample(total, {}, "_sum")))


def rendered(families: Iterable[Family], *, open_metrics: bool) -> str:
    """All of it as text."""
    lines = [line for family in families if family.samples for line in _lines(family, open_metrics=open_metrics)]
    return "\n".join([*lines, *(["# EOF"] if open_metrics else []), ""])


def _lines(family: Family, *, open_metrics: bool) -> Iterator[str]:
    name = family.name if open_metrics else family.full_name
    kind = Type.GAUGE if family.type is Type.INFO and not open_metrics else family.type
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {kind}"
    for sample in family.samples:
        labels = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in sample.labels.items())
        shown = f"{{{labels}}}" if labels else ""
        yield f"{family.full_name}{sample.suffix}{shown} {_number(sample.value)}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(value) if isinstance(value, float) else str(int(value))

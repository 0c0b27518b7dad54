"""The numbers to reach, and what the run says of each: met, missed, or not measured. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.driver.cells import cell
from bench.driver.contenders import Lane
from bench.driver.figures import Measure, figure, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.driver.report import Report

TUNNEL: Final = "egress, tunnel lane"
HTTP: Final = "egress, http lane"
MITM: Final = "egress, mitm lane"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target. `met` and `stretched` are None where it was not measured."""

    work: str
    must: str
    stretch: str
    measured: str
    met: bool | None
    stretched: bool | None


def _at_least(
    found: float | None, must: float, stretch: float, show: str = "{:.2f}x"
) -> tuple[str, bool | None, bool | None]:
    if found is None:
        return "not measured", None, None
    return show.format(found), found >= must, found >= stretch


def _at_most(found: float | None, must: float, stretch: float, show: str) -> tuple[str, bool | None, bool | None]:
    if found is None:
        return "not measured", None, None
    return show.format(found), found < must, found < stretch


def _ratio(report: Report, where: tuple[Lane, str], ours: str, theirs: str, measure: Measure) -> float | None:
    key = cell(*where).key
    return ratio(report.results.of(key, ours), report.results.of(key, theirs), measure)


def _least(*found: float | None) -> float | None:
    there = [each for each in found if each is not None]
    return min(there) if len(there) == len(found) else None


def _added(report: Report, lane: Lane, ours: str) -> float | None:
    key = cell(lane, "one connection").key
    here = figure(report.results.of(key, ours), Measure.P50)
    direct = figure(report.results.of(key, "direct"), Measure.P50)
    return (here - direct) / 1000 if here is not None and direct is not None else None


def _of_rows(report: Report, table: str, pick: Callable[[list[float]], float], name: str = "") -> float | None:
    rows = [row for row in report.rows(table) if row.cells[0].startswith(name)]
    values = [row.value for row in rows if row.value is not None]
    return pick(values) if values and len(values) == len(rows) else None


def _apart(report: Report) -> float | None:
    values = [row.value for row in report.rows("decide") if row.value]
    return max(values) / min(values) if values else None


def verdicts(report: Report) -> list[Verdict]:
    """Every target, in the order of the design."""
    kept, new = "kept connections", "new connections"
    tunnel, inspected = Lane.TUNNEL, Lane.INSPECTED

    def rate(where: tuple[Lane, str], ours: str, theirs: str) -> float | None:
        return _ratio(report, where, ours, theirs, Measure.RATE)

    def per_mb(lane: Lane, ours: str, theirs: str) -> float | None:
        ways = (_ratio(report, (lane, way), ours, theirs, Measure.CPU_MB) for way in ("GET 100 MB", "POST 100 MB"))
        return _least(*ways)

    bump, opened = "squid, ssl-bump", "envoy, TLS opened"
    slowest = _of_rows(report, "decide", max)
    apart = _apart(report)
    near = None if apart is None or slowest is None else slowest if apart < 2 else float("inf")
    return [
        Verdict("decide(), 10 to 100,000 rules", "< 10 us, < 2x apart", "< 5 us", *_at_most(near, 10, 5, "{:.2f} us")),
        Verdict(
            "tunnel, kept: answers/s", ">= squid", "1.3x", *_at_least(rate((tunnel, kept), TUNNEL, "squid"), 1, 1.3)
        ),
        Verdict(
            "inspected, kept: answers/s", ">= squid ssl-bump", "", *_at_least(rate((inspected, kept), HTTP, bump), 1, 1)
        ),
        Verdict(
            "inspected, kept: answers/s", ">= envoy", "1.5x", *_at_least(rate((inspected, kept), HTTP, opened), 1, 1.5)
        ),
        Verdict(
            "inspected, new connections/s",
            ">= 4x squid ssl-bump",
            "",
            *_at_least(rate((inspected, new), HTTP, bump), 4, 4),
        ),
        Verdict("inspected, new connections/s", "", ">= envoy", *_at_least(rate((inspected, new), HTTP, opened), 0, 1)),
        Verdict(
            "mitm lane, kept: answers/s",
            ">= 1.5x mitmdump",
            "3x",
            *_at_least(rate((inspected, kept), MITM, "mitmdump, addon"), 1.5, 3),
        ),
        Verdict(
            "mitm lane, new connections/s",
            ">= 2x mitmdump",
            "",
            *_at_least(rate((inspected, new), MITM, "mitmdump, addon"), 2, 2),
        ),
        Verdict("100 MB, tunnel: CPU per MB", "<= squid", "half", *_at_least(per_mb(tunnel, TUNNEL, "squid"), 1, 2)),
        Verdict(
            "100 MB, inspected: CPU per MB",
            "<= half of squid ssl-bump",
            "",
            *_at_least(per_mb(inspected, HTTP, bump), 2, 2),
        ),
        Verdict("100 MB, inspected: CPU per MB", "", "<= envoy", *_at_least(per_mb(inspected, HTTP, opened), 0, 1)),
        Verdict(
            "a big body: memory over idle",
            "< 8 MiB",
            "< 1 MiB",
            *_at_most(_of_rows(report, "bodies", max), 8, 1, "{:.1f} MiB"),
        ),
        Verdict(
            "added latency, tunnel, p50",
            "< 0.1 ms",
            "half",
            *_at_most(_added(report, tunnel, TUNNEL), 0.1, 0.05, "{:.3f} ms"),
        ),
        Verdict(
            "added latency, inspected, p50",
            "< 0.2 ms",
            "half",
            *_at_most(_added(report, inspected, HTTP), 0.2, 0.1, "{:.3f} ms"),
        ),
        Verdict(
            "10,000 idle tunnels",
            "< 400 MiB",
            "< 200 MiB",
            *_at_most(_of_rows(report, "idle", max, TUNNEL), 400, 200, "{:.0f} MiB"),
        ),
        Verdict(
            "audit, rows/s", "20,000", "50,000", *_at_least(_of_rows(report, "audit", max), 20_000, 50_000, "{:,.0f}")
        ),
        Verdict(
            "start to listening", "< 1 s", "< 0.5 s", *_at_most(_of_rows(report, "start", max), 1, 0.5, "{:.2f} s")
        ),
    ]

"""The tables of a run in Markdown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.driver.cells import CELLS, cell
from bench.driver.figures import Measure, best_peer, figure, ratio
from bench.driver.report import OURS
from bench.driver.targets import verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.driver.contenders import Lane
    from bench.driver.load import Sample
    from bench.driver.report import Report

BODIES: Final = ("GET 100 KB", "POST 100 KB", "GET 100 MB", "POST 100 MB")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, the first column to the left and the others to the right."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def number(found: float | None) -> str:
    """Three digits that count, or a dash."""
    if found is None:
        return "-"
    if found >= 100:
        return f"{found:,.0f}"
    return f"{found:.1f}" if found >= 10 else f"{found:.2f}"


def _with_failures(shown: str, samples: Sequence[Sample | None]) -> str:
    failed = sum(each.failed for each in samples if each is not None)
    return f"{shown} ({failed} failed)" if failed else shown


def machine(report: Report) -> str:
    """Where and how the figures were made."""
    rounds = f"{report.rounds} rounds" if report.rounds > 1 else "one round"
    lines = [f"- {name}: {what}" for name, what in report.machine.items()]
    kind = "a quick run, to show that it works: " if report.quick else ""
    lines.append(f"- {kind}{rounds}, windows of {report.seconds:g} s")
    lines += [f"- {name} {version}" for name, version in sorted(report.versions.items())]
    return "\n".join(lines)


def absent(report: Report) -> str:
    """Who did not take part, and why."""
    return "\n".join(f"- {name}: {why}" for name, why in sorted(report.absent.items())) or "Nobody."


def targets(report: Report) -> str:
    """The numbers to reach."""
    words = {True: "met", False: "**missed**", None: "not measured"}

    def verdict(met: bool | None, stretched: bool | None, stretch: str, must: str) -> str:  # noqa: FBT001 - three values
        if stretch and stretched:
            return "met, stretch too"
        return words[met] if must or met is None else "stretch not reached"

    rows = (
        (
            each.work,
            each.must or "-",
            each.stretch or "-",
            each.measured,
            verdict(each.met, each.stretched, each.stretch, each.must),
        )
        for each in verdicts(report)
    )
    return markdown(("work", "must", "stretch", "measured", "verdict"), rows)


def best(report: Report) -> str:
    """Ours beside the best peer of each cell, by rate and by CPU."""
    rows: list[tuple[str, ...]] = []
    for each in CELLS:
        measures = (
            (Measure.MB_RATE, Measure.CPU_MB)
            if each.bulk
            else (Measure.P50,)
            if each.one
            else (Measure.RATE, Measure.CPU)
        )
        for name in sorted(OURS & report.results.samples.get(each.key, {}).keys()):
            ours = report.results.of(each.key, name)
            for measure in measures:
                peer = best_peer(report.results, each.key, measure, OURS)
                if peer is None:
                    continue
                found = ratio(ours, report.results.of(each.key, peer.name), measure)
                shown = f"{found:.2f}x" if found is not None else "-"
                rows.append(
                    (
                        each.key,
                        name,
                        str(measure),
                        number(figure(ours, measure)),
                        f"{peer.name}: {number(peer.value)}",
                        shown,
                    )
                )
    return markdown(("work", "ours", "measure", "ours", "best peer", "ours / best, more is better"), rows)


def requests(report: Report, lane: Lane) -> str:
    """Requests in a lane: every contender."""
    kept, new, one = (cell(lane, name) for name in ("kept connections", "new connections", "one connection"))
    denied = next(each for each in CELLS if each.lane is lane and each.refused)
    head = (
        "",
        "kept: answers/s",
        "of direct",
        "CPU us",
        "new: /s",
        "CPU us",
        "one: p50 us",
        "p99 us",
        f"{denied.name}: /s",
        "CPU us",
    )
    rows: list[tuple[str, ...]] = []
    for name in report.results.samples.get(kept.key, {}):
        found = {each.key: report.results.of(each.key, name) for each in (kept, new, one, denied)}
        of_direct = ratio(found[kept.key], report.results.of(kept.key, "direct"), Measure.RATE)
        direct = name == "direct"

        def shown(key: str, measure: Measure, of: dict[str, list[Sample | None]] = found) -> str:
            return _with_failures(number(figure(of[key], measure)), of[key])

        def cost(key: str, of: dict[str, list[Sample | None]] = found, none: bool = direct) -> str:  # noqa: FBT001 - bound
            return "-" if none else number(figure(of[key], Measure.CPU))

        rows.append(
            (
                name,
                *(shown(kept.key, Measure.RATE), number(of_direct), cost(kept.key), shown(new.key, Measure.RATE)),
                *(cost(new.key), shown(one.key, Measure.P50), number(figure(found[one.key], Measure.P99))),
                *(shown(denied.key, Measure.RATE), cost(denied.key)),
            )
        )
    return markdown(head, rows)


def bodies(report: Report, lane: Lane) -> str:
    """Bodies in a lane: every contender."""
    head = ("", *(column for name in BODIES for column in (f"{name}: MB/s", "CPU ms/MB")))
    rows: list[tuple[str, ...]] = []
    for name in report.results.samples.get(cell(lane, BODIES[0]).key, {}):
        row = [name]
        for body in BODIES:
            samples = report.results.of(cell(lane, body).key, name)
            cost = "-" if name == "direct" else number(figure(samples, Measure.CPU_MB))
            row += [_with_failures(number(figure(samples, Measure.MB_RATE)), samples), cost]
        rows.append(tuple(row))
    return markdown(head, rows)


EXTRAS: Final = {
    "memory": ("", "at the start", "after the rounds"),
    "idle": ("", "tunnels held", "memory before", "memory with them", "for each"),
    "bodies": ("", "way", "body", "memory before", "most over it"),
    "rules": ("entries", "start to listening", "memory", "CPU for an inspected request"),
    "decide": ("rules", "by name", "by request"),
    "start": ("median", "least", "most"),
    "audit": ("rows", "rows/s", "CPU a row"),
}


def beside(report: Report, table: str) -> str:
    """One of the extra tables."""
    rows = [row.cells for row in report.rows(table)]
    return markdown(EXTRAS[table], rows) if rows else "Not measured in this run."

"""What the samples of a run are made into: medians, ratios, the best peer, verdicts, and the document."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.driver.cells import CELLS, cell
from bench.driver.contenders import Contender, Lane
from bench.driver.document import fill, sections
from bench.driver.extras import Row
from bench.driver.figures import Measure, best_peer, figure, ratio
from bench.driver.load import Sample
from bench.driver.processes import parent_and_cpu, tree
from bench.driver.report import OURS, Report
from bench.driver.rounds import Results
from bench.driver.targets import HTTP, MITM, TUNNEL, verdicts

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


def sample(rate: float = 1_000.0, cpu_us: float = 100.0, p50_us: float = 50.0, failed: int = 0) -> Sample:
    """One second at that many answers, each for that CPU, and a MB each."""
    return Sample(1.0, int(rate), failed, int(rate * 1e6), p50_us, 2 * p50_us, rate * cpu_us / 1e6)


RATIOS = [
    (Measure.RATE, sample(rate=2_000), sample(rate=1_000), 2.0),
    (Measure.MB_RATE, sample(rate=2_000), sample(rate=1_000), 2.0),
    (Measure.CPU, sample(cpu_us=50), sample(cpu_us=100), 2.0),
    (Measure.CPU_MB, sample(cpu_us=50), sample(cpu_us=100), 2.0),
    (Measure.P50, sample(p50_us=25), sample(p50_us=50), 2.0),
    (Measure.P99, sample(p50_us=25), sample(p50_us=50), 2.0),
]


@pytest.mark.parametrize(("measure", "ours", "theirs", "expected"), RATIOS)
def test_more_is_better_in_every_ratio(measure: Measure, ours: Sample, theirs: Sample, expected: float) -> None:
    """Rates are divided by the peer's, costs and waits divide it."""
    assert ratio([ours], [theirs], measure) == pytest.approx(expected)
    assert ratio([theirs], [ours], measure) == pytest.approx(1 / expected)


def test_a_ratio_is_of_samples_of_one_round() -> None:
    """A machine that halves its speed between rounds changes no ratio; a round without one side is left out."""
    ours = [sample(rate=2_000), sample(rate=1_000), sample(rate=4_000)]
    theirs = [sample(rate=1_000), sample(rate=500), None]
    assert ratio(ours, theirs, Measure.RATE) == pytest.approx(2.0)
    assert ratio(ours, [None] * 3, Measure.RATE) is None


def test_nothing_carried_is_no_figure() -> None:
    """Never a zero that would look like a cost of nothing."""
    nothing = Sample(1.0, 0, 5, 0, 0.0, 0.0, 0.3)
    assert [figure([nothing, None], measure) for measure in Measure] == [None] * len(Measure)


def test_the_best_peer_is_neither_ours_nor_direct_nor_one_that_failed() -> None:
    """A proxy that drops requests is no measure of those that carry them."""
    results = Results()
    rates = {"direct": 9_000, TUNNEL: 8_000, "slow": 1_000, "good": 2_000}
    for name, rate in rates.items():
        results.add("cell", name, sample(rate=rate))
    results.add("cell", "fails", sample(rate=7_000, failed=1))
    best = best_peer(results, "cell", Measure.RATE, OURS)
    assert best is not None
    assert best.name == "good"


NAMES = ["nginx", "nginx: worker process", "(squid-1)", "a) S 1 2 (b", ") R 7"]


@pytest.mark.parametrize("name", NAMES)
def test_cpu_is_read_after_the_last_parenthesis_of_a_process(name: str) -> None:
    """A process's name may hold blanks and parentheses."""
    stat = f"42 ({name}) S 7 42 42 0 -1 4194560 1 0 0 0 100 50 30 20 20 0 1 0 12345 1 1"
    parent, cpu = parent_and_cpu(stat)
    assert parent == 7
    assert cpu == pytest.approx(200 * (parent_and_cpu(stat.replace("100 50 30 20", "1 0 0 0"))[1]))


def test_a_tree_holds_all_below_and_nothing_beside() -> None:
    """Children and their children, whatever the order of the numbers."""
    parents = {10: 1, 11: 10, 5: 11, 12: 10, 20: 1, 21: 20}
    assert sorted(tree(10, parents)) == [5, 10, 11, 12]


def report(results: Results, extras: tuple[Row, ...] = ()) -> Report:
    """A run with these results."""
    return Report({"processor": "a"}, 3, 1.5, False, {"squid": "5"}, {"absent": "why"}, results, extras)  # noqa: FBT003


def full_run(factor: float) -> Report:
    """A run in which ours is `factor` as good as every peer, in everything."""
    results = Results()
    names = ("direct", "squid", "squid, ssl-bump", "envoy, TLS opened", "mitmdump, addon")
    for each in CELLS:
        for name in names:
            results.add(each.key, name, sample())
        for name in (TUNNEL, HTTP, MITM):
            results.add(each.key, name, sample(1_000 * factor, 100 / factor, 50 / factor))
    rows = (
        Row("decide", ("10", "", ""), 9.0 / factor),
        Row("bodies", (TUNNEL,), 8.0 / factor),
        Row("idle", (TUNNEL,), 500.0 / factor),
        Row("idle", ("squid",), 9_999.0),
        Row("audit", ("",), 15_000.0 * factor),
        Row("start", ("",), 1.5 / factor),
    )
    return report(results, rows)


def test_a_run_that_is_good_enough_meets_every_target_and_one_that_is_not_misses() -> None:
    """Verdicts go by the figures, each in its direction."""
    assert {each.met for each in verdicts(full_run(5.0))} == {True}
    missed = {each.work for each in verdicts(full_run(0.5)) if each.met is False}
    assert {"tunnel, kept: answers/s", "audit, rows/s", "start to listening", "10,000 idle tunnels"} <= missed
    assert {"mitm lane, kept: answers/s", "100 MB, inspected: CPU per MB", "a big body: memory over idle"} <= missed


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    """An absent peer proves nothing."""
    assert {each.met for each in verdicts(report(Results()))} == {None}


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """So that the document can be written again without measuring again."""
    before = full_run(2.0)
    before.write(tmp_path / "run.json")
    assert Report.read(tmp_path / "run.json") == before


def test_generated_parts_are_replaced_and_prose_stays() -> None:
    """Twice in a row gives the same document."""
    text = "before\n<!-- a: begin (generated) -->\nold\n<!-- a: end -->\nafter\n"
    once = fill(text, {"a": r"new \1"})
    assert once == "before\n<!-- a: begin (generated) -->\nnew \\1\n<!-- a: end -->\nafter\n"
    assert fill(once, {"a": r"new \1"}) == once


def test_a_part_without_a_place_is_an_error() -> None:
    """A table that nobody would see is noticed."""
    with pytest.raises(KeyError, match="b"):
        fill("<!-- a: begin (generated) -->\n<!-- a: end -->\n", {"b": ""})


def test_the_document_has_a_place_for_every_part_of_a_run() -> None:
    """The shipped document, and a run in which everything was measured."""
    filled = fill(DOCUMENT.read_text(), sections(full_run(2.0)))
    assert "| egress, http lane |" in filled


def test_the_origin_itself_is_not_asked_to_refuse() -> None:
    """`direct` takes part in everything but denials."""
    direct = Contender("direct", "", frozenset(Lane), None, DOCUMENT)
    assert {each.refused for each in CELLS if not each.applies(direct)} == {True}
    assert cell(Lane.TUNNEL, "kept connections").applies(direct)

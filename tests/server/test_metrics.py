"""The metrics: their text in both formats, that their labels are bounded, and that the guide names each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from documents import ROOT
from test_admin import READY

from egress.audit.row import COLUMNS, DECISIONS, EVENTS, OUTCOMES
from egress.server.metrics import Family, Sample, Type, histogram, many, rendered, single
from egress.server.metrics_told import families
from egress.server.tally import BOUNDS, OTHER, SANDBOXES_AT_MOST, Tally

if TYPE_CHECKING:
    from egress.audit.row import Row

GUIDE = (ROOT / "docs" / "guides" / "metrics.md").read_text()
LINE = re.compile(r'([a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? (\S+)')


def row(table: str, **values: str | int | None) -> Row:
    """A row with these values; all others are not known."""
    return tuple(values.get(column) for column in COLUMNS[table])


def decided(verdict: str = "deny", sandbox: str = "default", **more: str | int) -> Row:
    """A decision's row."""
    return row(
        DECISIONS,
        **{"reason": "host-not-allowed", "lane": "http", "count": 1, **more},
        verdict=verdict,
        sandbox=sandbox,
    )


def measured(**hub: Any) -> dict[str, Any]:
    """A status with all that there can be."""
    process = {"name": "worker 1", "state": "ready", "connections": 2, "open": 1}
    used = {"cpu": 1.5, "rss": 4096, "threads": 1, "started": 1_800_000_000.5}
    tally = Tally()
    tally.row(DECISIONS, decided())
    tally.row(OUTCOMES, row(OUTCOMES, bytes_up=1, bytes_down=2, duration_us=3000, first_byte_us=10))
    tally.row(EVENTS, row(EVENTS, kind="reload"))
    full = {
        "problem": "",
        "lag": 0.5,
        "lookups": {"answered": 1},
        "fetches": {"failed": 1},
        "tally": tally.plain(),
        **hub,
    }
    return {
        **READY,
        "policy": {**READY["policy"], "sandboxes": 2},
        "reload": {"done": True},
        "processes": [*READY["processes"], process],
        "measured": {"hub": full, "waiting": 1, "sandboxes": {"a": 2}, "own": used, "processes": {"hub": used}},
    }


@pytest.mark.parametrize("open_metrics", [False, True])
def test_every_line_is_one_of_the_format(open_metrics: bool) -> None:  # noqa: FBT001 - a case
    """Each family has its help and its type before its samples, once, and no two samples are the same."""
    text = rendered(families(measured()), open_metrics=open_metrics)
    lines = text.removesuffix("\n").split("\n")
    if open_metrics:
        assert lines.pop() == "# EOF"
    names: list[str] = []
    samples = set()
    for line in lines:
        if line.startswith("# HELP "):
            names.append(line.split(" ")[2])
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == names[-1]
        else:
            found = LINE.fullmatch(line)
            assert found is not None, line
            assert found[1].startswith(names[-1])
            float(found[3])
            assert found[1] + (found[2] or "") not in samples
            samples.add(found[1] + (found[2] or ""))
    assert len(set(names)) == len(names) > 30


def test_the_two_formats_name_counters_and_information_each_in_its_own_way() -> None:
    """OpenMetrics names the family without the ending that its samples have."""
    made = [
        single("a", Type.COUNTER, "A.", 1),
        single("b", Type.INFO, "B.", 1, version="x"),
        single("c", Type.GAUGE, "C.", None),
    ]
    assert rendered(made, open_metrics=False) == (
        "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n"
        '# HELP b_info B.\n# TYPE b_info gauge\nb_info{version="x"} 1\n'
    )
    assert rendered(made, open_metrics=True) == (
        '# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b B.\n# TYPE b info\nb_info{version="x"} 1\n# EOF\n'
    )


def test_a_label_is_escaped_whatever_it_is() -> None:
    """A value that is no word of ours still cannot end its line."""
    made = [many("a", Type.GAUGE, "A.", [({"of": 'x"\n\\y'}, 1)])]
    assert 'a{of="x\\"\\n\\\\y"} 1\n' in rendered(made, open_metrics=False)


def test_a_histogram_counts_up() -> None:
    """Each bucket holds those before it; the last is all."""
    found = histogram("h", "H.", (0.1, 1.0), (2, 3, 4), 9.5)
    assert isinstance(found, Family)
    assert [sample.value for sample in found.samples] == [2, 5, 9, 9, 9.5]
    assert found.samples[2] == Sample(9, {"le": "+Inf"}, "_bucket")


def test_a_time_is_counted_where_it_falls() -> None:
    """On a bound it belongs below it; what has no time is not counted."""
    tally = Tally()
    for microseconds in (1_000, 1_001, 10**12, None):
        tally.row(OUTCOMES, row(OUTCOMES, duration_us=microseconds))
    told = tally.plain()
    assert (told["durations"]["counts"][0], told["durations"]["counts"][1], told["durations"]["counts"][-1]) == (
        1,
        1,
        1,
    )
    assert sum(told["durations"]["counts"]) == 3
    assert told["outcomes"] == 4
    assert len(told["durations"]["counts"]) == len(BOUNDS) + 1


def test_a_row_that_stands_for_many_counts_as_many() -> None:
    """As the verdicts of `egress status` do."""
    tally = Tally()
    tally.row(DECISIONS, decided(count=40))
    tally.row(DECISIONS, decided())
    assert tally.plain()["decisions"] == [["deny", "host-not-allowed", "http", 41]]
    assert tally.plain()["sandboxes"] == {"default": {"deny": 41}}


def test_labels_are_bounded_whatever_rows_say() -> None:
    """Sandboxes come and go, and a defect must not make a label of what a client says."""
    tally = Tally()
    for number in range(2_000):
        tally.row(DECISIONS, decided(sandbox=f"s{number}", reason=f"r{number}", host="secret.example"))
        tally.row(EVENTS, row(EVENTS, kind=f"k{number}"))
    told = tally.plain()
    assert len(told["sandboxes"]) == SANDBOXES_AT_MOST + 1
    assert sum(told["sandboxes"][OTHER].values()) == 2_000 - SANDBOXES_AT_MOST
    assert len(told["decisions"]) <= 601
    assert sum(count for *_, count in told["decisions"]) == 2_000
    assert len(told["kinds"]) <= 101
    text = rendered(families(measured(tally=told)), open_metrics=False)
    assert "secret.example" not in text


def test_many_sandboxes_with_connections_are_told_together() -> None:
    """Those with most by name."""
    told = measured()
    told["measured"]["sandboxes"] = {f"s{number}": 1 + (number == 500) for number in range(1_000)}
    (found,) = [family for family in families(told) if family.name == "egress_sandbox_connections"]
    assert len(found.samples) == SANDBOXES_AT_MOST + 1
    assert found.samples[0] == Sample(2, {"sandbox": "s500"})
    assert found.samples[-1] == Sample(1_001 - SANDBOXES_AT_MOST - 1, {"sandbox": OTHER})


def test_without_a_hub_what_it_counts_is_left_out() -> None:
    """A counter that falls to nothing would look like a restart, a gauge of nothing like health."""
    told = {**measured(), "counters": {"recorded": None, "refused": 0}}
    told["measured"]["hub"] = {}
    names = {family.full_name for family in families(told) if family.samples}
    assert not names & {
        "egress_audit_rows_total",
        "egress_audit_lag_seconds",
        "egress_audit_writable",
        "egress_finished_total",
    }


def test_the_guide_has_a_line_for_each_metric_and_no_other() -> None:
    """What is not in the guide is not found, and what is there must be."""
    listed = set(re.findall(r"^\| `([a-z_]+)", GUIDE, re.MULTILINE))
    assert listed == {family.full_name for family in families(measured())}


def test_the_guide_names_every_label() -> None:
    """In the row of its metric."""
    missing = []
    for family in families(measured()):
        (line,) = re.findall(rf"^\| `{family.full_name}`.*$", GUIDE, re.MULTILINE)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        missing += [(family.full_name, label) for label in labels if f"`{label}`" not in line]
    assert missing == []


def test_a_sandboxs_own_scope_that_reports_is_counted() -> None:
    """The common files need not have that scope."""
    told = measured()
    told = {**told, "policy": {**told["policy"], "reporting": ["team"]}}
    text = rendered(families(told), open_metrics=False)
    assert 'egress_policy_report_mode{scope="org"} 0\n' in text
    assert 'egress_policy_report_mode{scope="team"} 1\n' in text

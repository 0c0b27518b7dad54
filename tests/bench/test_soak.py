"""The soak: what counts as a leak, and a short run of all of it, so that the tool does not rot."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.soaking.samples import Sample, Usage
from bench.soaking.verdict import MEMORY_SECONDS, at_rest, audit, memory, slope

ROOT = Path(__file__).parents[2]
USAGE = Usage(pid=7, rss=60, pss=30, private=50, descriptors=20, threads=2, tasks=3)
IDLE = Sample(0, {"worker 1": USAGE}, {"audit.db": 1}, 4, 900, {'egress_open{process="worker 1"}': 0})


def growing(mib_an_hour: float, *, seconds: float = 1_800, pid: int = 7) -> list[Sample]:
    """A run whose worker grows evenly; it has another number at the end if `pid` is another one."""
    moments = [seconds * step / 40 for step in range(41)]
    samples = [
        replace(IDLE, at=at, processes={"worker 1": replace(USAGE, private=50 + mib_an_hour * at / 3_600)})
        for at in moments
    ]
    last = samples[-1].processes["worker 1"]
    samples[-1] = replace(samples[-1], processes={"worker 1": replace(last, pid=pid)})
    return samples


MEMORY = [
    ("what grows by 60 MiB an hour", growing(60), True),
    ("what stays", growing(0), False),
    ("what shrinks", growing(-30), False),
    ("what grows by less than a tenth", growing(8), False),
    ("a process that was started again", growing(60, pid=8), False),
    ("a run that is too short to tell", growing(600, seconds=MEMORY_SECONDS - 1), False),
]


@pytest.mark.parametrize(("samples", "leaks"), [row[1:] for row in MEMORY], ids=[row[0] for row in MEMORY])
def test_memory_that_grows_from_the_first_quarter_to_the_last_is_a_leak(samples: list[Sample], *, leaks: bool) -> None:
    """Of a process that lived through both."""
    assert bool(list(memory(samples))) == leaks


def test_one_peak_is_no_slope() -> None:
    """The median over all pairs."""
    points = [(float(at), 50.0) for at in range(0, 600, 10)]
    points[30] = (300.0, 500.0)
    assert slope(points) == 0
    assert slope([(0.0, 1.0), (3_600.0, 3.0)]) == pytest.approx(2)


LEFT = [
    ("nothing", IDLE, ""),
    ("fewer descriptors", replace(IDLE, processes={"worker 1": replace(USAGE, descriptors=2)}), ""),
    ("descriptors", replace(IDLE, processes={"worker 1": replace(USAGE, descriptors=25)}), "descriptors of worker 1"),
    ("threads", replace(IDLE, processes={"worker 1": replace(USAGE, threads=7)}), "threads of worker 1"),
    ("tasks", replace(IDLE, processes={"worker 1": replace(USAGE, tasks=7)}), "tasks of worker 1"),
    ("what the kernel tracks", replace(IDLE, tracked=15), "connections tracked"),
    ("a rule, or an element of a set", replace(IDLE, nft=930), "the gateway's rules"),
    ("a tunnel", replace(IDLE, told={'egress_open{process="worker 1"}': 1}), "egress_open"),
    ("rows that were turned away", replace(IDLE, told={"egress_audit_refused_rows_total": 1}), "egress_audit_refused"),
]


@pytest.mark.parametrize(("after", "told"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_is_left_at_rest_is_told(after: Sample, told: str) -> None:
    """Beside what there was before the load."""
    found = list(at_rest(IDLE, after))
    assert len(found) == bool(told)
    assert "".join(found).startswith(told)


AUDITED = [
    ("as many", 10, 0, 0, True),
    ("one is missing", 9, 0, 0, False),
    ("one that nobody asked for", 11, 0, 0, False),
    ("one of work that was cut off", 11, 3, 0, True),
    ("more than work that was cut off", 14, 3, 0, False),
    ("lost with a worker that was killed", 8, 0, 2, True),
    ("more than it can have taken with it", 7, 0, 2, False),
]


@pytest.mark.parametrize(("rows", "unsure", "lost", "holds"), [row[1:] for row in AUDITED], ids=[r[0] for r in AUDITED])
def test_the_audit_has_what_the_clients_saw(rows: int, unsure: int, lost: int, *, holds: bool) -> None:
    """Neither fewer decisions nor more."""
    key = ("api.example.com", "allow")
    assert (not list(audit({key: 10}, Counter({key[0]: unsure}), {key: rows}, lost))) == holds

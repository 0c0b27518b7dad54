"""Every case of the corpus is run, or waits for a named issue with a reason: none is left out silently."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from corpus_runner.accounting import BY_CLIENTS, script_ids, unit_ids, wire_ids
from corpus_runner.cases import CASES
from corpus_runner.waiting import WAITING

HERE = Path(__file__).parent
END_TO_END = HERE.parent / "e2e"


def test_every_case_is_in_exactly_one_place() -> None:
    """Run and waiting together are the whole corpus, and nothing is in both."""
    waiting = [case_id for group in WAITING for case_id in group.ids]
    places = Counter([*wire_ids(), *script_ids(), *unit_ids(), *BY_CLIENTS, *waiting])
    assert set(places) == set(CASES)
    assert len(CASES) == 429
    assert [case_id for case_id, count in places.items() if count != 1] == []


def test_every_waiting_case_has_a_reason() -> None:
    """A reason is a sentence, and belongs to at least one case."""
    assert all(group.ids and len(group.reason) > 20 for group in WAITING)


def test_the_threat_model_says_how_many_run() -> None:
    """And in which number against the pure core."""
    waiting = sum(len(group.ids) for group in WAITING)
    said = f"Of its {len(CASES)} cases {len(CASES) - waiting} are run: {len(unit_ids())} against"
    assert said in (HERE.parents[1] / "docs" / "threat-model.md").read_text()


def test_the_client_tests_that_stand_for_cases_exist() -> None:
    """A case that a client's test runs names a test that is there."""
    for place in BY_CLIENTS.values():
        file, _, name = place.partition("::")
        tree = ast.parse((END_TO_END / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place


def test_the_unit_cases_have_their_runner() -> None:
    """The unit cases are run by the test beside this one."""
    assert (HERE / "test_unit_cases.py").exists()

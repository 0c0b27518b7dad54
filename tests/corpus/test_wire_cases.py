"""The wire cases of the corpus: exact bytes at the real proxy, judged by what reached the recorders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from corpus_runner import alike
from corpus_runner.accounting import wire_ids
from corpus_runner.cases import CASES
from corpus_runner.evidence import judge
from corpus_runner.policies import BY_SENTENCE, ENVIRONMENT, HOST, HOST_INSPECTED
from corpus_runner.wire import play

if TYPE_CHECKING:
    from harness.world import World

# These are denied under their own policy for their port too; under this one only the right reason is left.
AGAIN = ("DESTBINDIN-001", "DESTBINDIN-002", "DESTBINDIN-003", "DESTBINDIN-004")


@pytest.mark.parametrize("case_id", wire_ids())
def test_wire_case(world: World, case_id: str) -> None:
    """What the case says may reach an origin, the audit, the resolver or the client does, and nothing else."""
    case = CASES[case_id]
    policy = BY_SENTENCE[case.policy]
    alike.through_lanes(world, case_id, lambda: judge(case, play(world, world.proxy(policy, ENVIRONMENT), case)))


@pytest.mark.parametrize("case_id", [one for one in wire_ids() if BY_SENTENCE[CASES[one].policy] == HOST])
def test_wire_case_inspected(world: World, case_id: str) -> None:
    """The same where TLS that would stay closed is opened."""
    case = CASES[case_id]
    proxy = partial(world.proxy, HOST_INSPECTED, ENVIRONMENT)
    alike.through_lanes(world, case_id, lambda: judge(case, play(world, proxy(), case)))


@pytest.mark.parametrize("case_id", AGAIN)
def test_wire_case_where_only_its_names_are_wrong(world: World, case_id: str) -> None:
    """A plain request whose names disagree is denied also where plain requests are allowed."""
    case = CASES[case_id]
    judge(case, play(world, world.proxy(HOST, ENVIRONMENT), case))

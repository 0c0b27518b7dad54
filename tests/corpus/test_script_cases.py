"""The cases of the corpus that are written as instructions, each played by a function of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from corpus_runner import alike
from corpus_runner.accounting import script_ids
from corpus_runner.cases import CASES
from corpus_runner.scripts import SCRIPTS

if TYPE_CHECKING:
    from harness.world import World


@pytest.mark.parametrize("case_id", script_ids())
def test_script_case(world: World, case_id: str) -> None:
    """What the case says must not happen does not, and what must does, in each lane alike."""
    alike.through_lanes(world, case_id, lambda: SCRIPTS[case_id](world, CASES[case_id]))

"""The cases that are written as instructions: each has a function here, registered under its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.world import World

    from corpus_runner.cases import Case

    type Script = Callable[[World, Case], None]

SCRIPTS: dict[str, Script] = {}


def script(*ids: str) -> Callable[[Script], Script]:
    """Register a function as what runs these cases."""

    def register(function: Script) -> Script:
        for case_id in ids:
            assert case_id not in SCRIPTS, case_id
            SCRIPTS[case_id] = function
        return function

    return register

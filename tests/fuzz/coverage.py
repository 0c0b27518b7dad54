"""Tells whether an input made our code take a branch that no input took before (PEP 669)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import egress

if TYPE_CHECKING:
    from types import CodeType

_OURS = str(Path(egress.__file__).parent)
_monitoring = sys.monitoring
# One of the numbers that no kind of tool has for its own.
_TOOL = 4


class Branches:
    """Counts the ways that branches of our code were taken, each once."""

    def __init__(self) -> None:
        self.count = 0
        self._ways: dict[tuple[CodeType, int], int] = {}

    def __enter__(self) -> Self:
        """Begin to look."""
        _monitoring.use_tool_id(_TOOL, "fuzz")
        _monitoring.register_callback(_TOOL, _monitoring.events.BRANCH, self._taken)
        _monitoring.restart_events()
        _monitoring.set_events(_TOOL, _monitoring.events.BRANCH)
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        _monitoring.set_events(_TOOL, 0)
        _monitoring.free_tool_id(_TOOL)

    def _taken(self, code: CodeType, source: int, destination: int) -> object:
        if not code.co_filename.startswith(_OURS):
            return _monitoring.DISABLE
        first = self._ways.get((code, source))
        if first == destination:
            return None
        self._ways[code, source] = destination
        self.count += 1
        # The same event tells of both ways: it is silenced once the second was taken, no sooner.
        return None if first is None else _monitoring.DISABLE

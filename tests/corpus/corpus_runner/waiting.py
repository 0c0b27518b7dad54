"""The cases that wait for a later issue: which one, and why. Nothing is left out silently: see test_accounting.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Issue(StrEnum):
    """The later issues, by what they bring."""

    DEPTH = "a deeper look"


@dataclass(frozen=True)
class Waiting:
    """Cases and the one reason why they cannot run yet."""

    ids: tuple[str, ...]
    issue: Issue
    reason: str


WAITING: tuple[Waiting, ...] = (
    Waiting(("ISOLATION-003",), Issue.DEPTH, "no client certificates for upstreams"),
    Waiting(("UPGRADETUN-019",), Issue.DEPTH, "the lane http looks at frames one by one, and joins none"),
    Waiting(("UPGRADETUN-016",), Issue.DEPTH, "nothing looks at WebSocket messages, so nothing drops one"),
)

WAITING_IDS = frozenset(case for waiting in WAITING for case in waiting.ids)

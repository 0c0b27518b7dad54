"""The cases that wait for a later issue: which one, and why. Nothing is left out silently: see test_accounting.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from corpus_runner.cases import CASES, Case


class Issue(StrEnum):
    """The later issues, by what they bring."""

    DEPTH = "a deeper look"
    ROADS = "every way in and out"


@dataclass(frozen=True)
class Waiting:
    """Cases and the one reason why they cannot run yet."""

    ids: tuple[str, ...]
    issue: Issue
    reason: str


def _where(kind: str = "", mode: str = "") -> tuple[str, ...]:
    def wanted(case: Case) -> bool:
        return (not kind or case.kind == kind) and (not mode or case.mode == mode)

    return tuple(case.id for case in CASES.values() if wanted(case) and case.id not in RUN_ALL_THE_SAME)


# Written for a way in that is not there yet, but their point can be made through the explicit proxy.
RUN_ALL_THE_SAME = frozenset({"DNS-034", "POSITIVECO-016"})

WAITING: tuple[Waiting, ...] = (
    Waiting(_where(mode="socks"), Issue.ROADS, "there is no SOCKS5 listener"),
    Waiting(_where(mode="transparent"), Issue.ROADS, "there is no transparent listener, and no nftables rules"),
    Waiting(_where(mode="dns"), Issue.ROADS, "there is no DNS server"),
    Waiting(("AUDITLOG-005",), Issue.ROADS, "the newline comes in a SOCKS5 name"),
    Waiting(("TAMPER-013", "TAMPER-014"), Issue.ROADS, "only confinement takes the other ways out from the sandbox"),
    Waiting(("ISOLATION-008",), Issue.ROADS, "there is no DNS server to share a cache through"),
    Waiting(("ISOLATION-003",), Issue.DEPTH, "no client certificates for upstreams"),
    Waiting(("UPGRADETUN-019",), Issue.DEPTH, "the lane http looks at frames one by one, and joins none"),
    Waiting(("UPGRADETUN-016",), Issue.DEPTH, "nothing looks at WebSocket messages, so nothing drops one"),
)

WAITING_IDS = frozenset(case for waiting in WAITING for case in waiting.ids)

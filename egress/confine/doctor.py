"""Finds what keeps the proxy from holding a sandbox, or a client from working through it: checks and their findings.

1. a check looks at one thing and changes nothing; what it cannot find out it says it cannot
2. all run at once, each within a deadline: one that hangs is a problem of its own, and holds up no other
3. every finding that is not fine says what to do, and has its place in docs/guides/doctor.md under the check's id
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECONDS: Final = 8.0


class State(StrEnum):
    """How a check ended. `skipped`: it was not, or could not be, looked."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in a sentence, and what to do about it."""

    state: State
    told: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. `id` is its heading in the guide."""

    id: str
    look: Callable[[], Finding]


@dataclass(frozen=True, slots=True)
class Result:
    """A check's finding."""

    id: str
    finding: Finding


def ok(told: str) -> Finding:
    """All is well."""
    return Finding(State.OK, told)


def note(told: str, fix: str = "") -> Finding:
    """Nothing is wrong; it is worth knowing."""
    return Finding(State.NOTE, told, fix)


def warning(told: str, fix: str) -> Finding:
    """It works, and less well than it should."""
    return Finding(State.WARNING, told, fix)


def problem(told: str, fix: str) -> Finding:
    """It does not work, or does not hold."""
    return Finding(State.PROBLEM, told, fix)


def skipped(told: str, fix: str = "") -> Finding:
    """It was not looked at."""
    return Finding(State.SKIPPED, told, fix)


def examine(checks: Iterable[Check], seconds: float = SECONDS) -> list[Result]:
    """The results, in the order of the checks, within so many seconds."""
    deadline = time.monotonic() + seconds
    running = [(check, _Running(check)) for check in checks]
    results = []
    for check, thread in running:
        thread.join(max(deadline - time.monotonic(), 0))
        late = problem("this did not end in time", "run it again; if it stays, look what the machine waits for")
        results.append(Result(check.id, thread.finding or late))
    return results


class _Running(threading.Thread):
    """A check under way. A daemon: one that hangs does not keep the program from ending."""

    def __init__(self, check: Check) -> None:
        super().__init__(name=check.id, daemon=True)
        self.finding: Finding | None = None
        self._look = check.look
        self.start()

    def run(self) -> None:
        try:
            self.finding = self._look()
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding, and no reason to say nothing else
            told = f"this could not be looked at: {type(error).__name__}: {error}"
            self.finding = problem(told, "run it as the user that runs the proxy, or as root; else report it")

"""An audit in memory, which can be told to refuse, to raise or to lose time: what the gate's recorder needs of one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.audit import DecisionEvent, OutcomeEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit.event import AuditEvent

PATIENCE = 4.0


@dataclass
class Ledger:
    """Takes events while `accepts` says so, in order. Any of `offer`'s faults is one line in a test."""

    accepts: Callable[[AuditEvent], bool] = lambda _: True
    events: list[AuditEvent] = field(default_factory=list)

    def offer(self, event: AuditEvent) -> bool:
        """Keep the event, if it is accepted."""
        if not self.accepts(event):
            return False
        self.events.append(event)
        return True

    @property
    def decisions(self) -> list[DecisionEvent]:
        """All decisions so far."""
        return [event for event in tuple(self.events) if isinstance(event, DecisionEvent)]

    @property
    def outcomes(self) -> list[OutcomeEvent]:
        """All outcomes so far."""
        return [event for event in tuple(self.events) if isinstance(event, OutcomeEvent)]

    def outcome(self, decision: DecisionEvent) -> OutcomeEvent:
        """The one outcome of a decision; fails if there is none within the patience, or more than one."""
        wait_until(lambda: any(outcome.id == decision.id for outcome in self.outcomes), "an outcome")
        (only,) = [outcome for outcome in self.outcomes if outcome.id == decision.id]
        return only

    def only(self) -> tuple[DecisionEvent, OutcomeEvent]:
        """The one decision there is, and its one outcome."""
        wait_until(lambda: bool(self.outcomes), "a row")
        (decision,) = self.decisions
        return decision, self.outcome(decision)

    def wait(self, count: int) -> list[DecisionEvent]:
        """Exactly `count` decisions, each with its outcome."""
        wait_until(lambda: len(self.outcomes) >= count, f"{count} rows")
        decisions = self.decisions
        assert len(decisions) == count, [(row.verdict, row.reason, row.detail) for row in decisions]
        for decision in decisions:
            self.outcome(decision)
        return decisions

    def clear(self) -> None:
        """Forget everything."""
        self.events.clear()


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Come back as soon as `condition` holds; fail when it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)

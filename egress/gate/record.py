"""Step 4 of the gate: what a decision leaves in the audit, before the first byte.

INVARIANT every-decision-leaves-a-record: a decision that cannot be queued makes its traffic wait, then refuses it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from egress.audit import DecisionEvent, NoteEvent, OutcomeEvent, mask_query
from egress.audit import notes as audit_notes
from egress.gate.ids import new_decision_id
from egress.gate.permit import url_of
from egress.policy import Protocol as Carried
from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from egress.audit.event import AuditEvent
    from egress.gate.exchange import Client
    from egress.gate.floods import Floods
    from egress.gate.permit import Permit
    from egress.policy import Decision, Request, Say

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.02
_SCHEMES = {
    **dict.fromkeys((Carried.HTTP, Carried.WS), "http"),
    **dict.fromkeys((Carried.HTTPS, Carried.WSS, Carried.GRPC), "https"),
}


class AuditSink(Protocol):
    """What the gate needs of the audit: a place to queue an event without ever blocking."""

    def offer(self, event: AuditEvent) -> bool:
        """False if the event was not queued."""


@lru_cache(maxsize=1_024)
def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(labels), ensure_ascii=False)


def trace_of(decision: Decision) -> str | None:
    """What the row has no column for: each scope's say, where there are several, and the headers that were changed."""
    says = decision.says if len(decision.says) > 1 else ()
    if not (says or decision.inject or decision.remove):
        return None
    return _trace(says, tuple([injection.header for injection in decision.inject]), decision.remove)


@lru_cache(maxsize=1_024)
def _trace(says: tuple[Say, ...], put: tuple[str, ...], removed: tuple[str, ...]) -> str:
    found = {"says": [_said(say) for say in says], "set": put, "removed": removed}
    return json.dumps({name: value for name, value in found.items() if value}, ensure_ascii=False)


def _said(say: Say) -> dict[str, str | int]:
    rule = say.rule
    by = {} if rule is None else {"rule": rule.name, "file": rule.file, "line": rule.line}
    verdict = None if say.verdict is None else say.verdict.value
    told = {"scope": say.scope.value, "verdict": verdict, "reason": say.reason.value, **by}
    return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Recorder:
    """Queues decisions. `wait_seconds`: how long traffic waits for room. `show_query_values`: record them in clear.

    `commit`, with `durability: strict`: has all that was queued on the disk, within so many seconds, or is False.
    `floods`: counts denials beyond a budget.
    """

    audit: AuditSink
    wait_seconds: float = 2.0
    show_query_values: bool = False
    commit: Callable[[float], Awaitable[bool]] | None = None
    floods: Floods | None = None

    async def record(self, event: DecisionEvent) -> bool:
        """Queue a decision; False when it could not be in time."""
        if self.audit.offer(event):
            return True
        deadline = time.monotonic() + self.wait_seconds
        while not self.audit.offer(event):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_PAUSE_SECONDS)
        return True

    async def committed(self, event: DecisionEvent) -> bool:
        """Have a decision that was queued on the disk, where that is asked for; False: it was not in time.

        The row says then that nothing passed, as soon as it can be written.
        """
        if self.commit is None or await self.commit(self.wait_seconds):
            return True
        error = f"{Reason.AUDIT_UNAVAILABLE.value}: the decision was not on the disk in time"
        self.audit.offer(OutcomeEvent(id=event.id, time_us=time.time_ns() // 1000, error=error))
        return False

    def counts(self, event: DecisionEvent) -> bool:
        """Whether a denial is one of a flood, and is recorded with others by a row with a count."""
        return self.floods is not None and self.floods.counts(event)

    def note_cut(self, count: int, why: str) -> None:
        """Record that connections were cut for a reason that no reload has told of."""
        kind, detail = audit_notes.cut(count, why)
        note = NoteEvent(id=new_decision_id(), time_us=time.time_ns() // 1000, kind=kind.value, detail=detail)
        if not self.audit.offer(note):
            logger.error("it could not be recorded that %s", detail)

    def event(
        self,
        decision_id: str,
        asked: tuple[Client, Request, str | None],
        decision: Decision,
        digest: str,
        permit: Permit | None = None,
        *,
        sent: Request | None = None,
    ) -> DecisionEvent:
        """The row of a decision on what was asked: by whom, for what, with which SNI. `sent` goes up in its place."""
        client, request, sni = asked
        rule = decision.rule
        query = request.query
        if query is not None and not self.show_query_values:
            query = mask_query(query)
        return DecisionEvent(
            id=decision_id,
            time_us=time.time_ns() // 1000,
            sandbox=client.sandbox,
            client=client.peer,
            verdict=decision.verdict._value_,
            reason=decision.reason._value_,
            scope=None if rule is None else rule.scope._value_,
            rule=None if rule is None else rule.name,
            file=None if rule is None else rule.file,
            line=None if rule is None else rule.line,
            policy_hash=digest,
            method=request.method,
            scheme=_SCHEMES.get(request.protocol),
            host=request.host.text or None,
            port=request.port or None,
            path=request.path,
            query=query,
            sni=sni,
            protocol=request.protocol._value_,
            lane=client.lane,
            address=None if permit is None else permit.address,
            secrets=() if permit is None else permit.rendered.names,
            labels=_labels(decision.labels) if decision.labels else None,
            detail=decision.detail or None,
            rewritten=None if sent is None or sent is request else url_of(sent),
            trace=trace_of(decision),
            road=client.road,
        )

"""Step 4 of the gate: what a decision leaves in the audit, before the first byte.

INVARIANT every-decision-leaves-a-record: a decision that cannot be queued makes its traffic wait, then refuses it.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from egress.audit import DecisionEvent, mask_query
from egress.gate.permit import url_of
from egress.policy import Protocol as Carried

if TYPE_CHECKING:
    from egress.audit import OutcomeEvent
    from egress.gate.exchange import Client
    from egress.gate.permit import Permit
    from egress.policy import Decision, Request

_PAUSE_SECONDS = 0.02
_SCHEMES = {
    **dict.fromkeys((Carried.HTTP, Carried.WS), "http"),
    **dict.fromkeys((Carried.HTTPS, Carried.WSS, Carried.GRPC), "https"),
}


class AuditSink(Protocol):
    """What the gate needs of the audit: a place to queue an event without ever blocking."""

    def offer(self, event: DecisionEvent | OutcomeEvent) -> bool:
        """False if the event was not queued."""


@lru_cache(maxsize=1_024)
def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(labels), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Recorder:
    """Queues decisions. `wait_seconds`: how long traffic waits for room. `show_query_values`: record them in clear."""

    audit: AuditSink
    wait_seconds: float = 2.0
    show_query_values: bool = False

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
        )

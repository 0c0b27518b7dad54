"""An answer of the proxy's own to a request that goes nowhere: recorded like any decision, sent like any page of ours.

1. who is no sandbox gets none
2. INVARIANT every-decision-leaves-a-record: what cannot be recorded is not answered
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from egress.audit import OutcomeEvent
from egress.config import wall_clock
from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.policy import Decision, Reason, Verdict

if TYPE_CHECKING:
    from egress.gate.endpoints import Answer
    from egress.gate.exchange import Client
    from egress.gate.gate import Gate
    from egress.policy import Request


@dataclass(frozen=True, slots=True)
class OwnAnswer(Denial):
    """What is told in place of a refusal's page, wherever a lane would tell one."""

    answer: Answer | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        # A plain number: it travels to the process that writes the audit.
        return int(HTTPStatus.INTERNAL_SERVER_ERROR if self.answer is None else self.answer.status)

    @property
    def reason_phrase(self) -> str:
        """That of the status, or as a refusal has it."""
        given = self.answer is not None and self.answer.given
        return HTTPStatus.OK.phrase if given else f"egress: {self.reason.value} ({self.decision_id})"

    def body(self) -> bytes:
        """As the service would write it."""
        return b"" if self.answer is None else self.answer.body

    def headers(self, *, length: int) -> list[tuple[bytes, bytes]]:
        """Those of a refusal, with the service's own."""
        if self.answer is None:
            return Denial.headers(self, length=length)
        told = [(name, value) for name, value in Denial.headers(self, length=length) if name != b"Content-Type"]
        return [(b"Content-Type", self.answer.content_type), *self.answer.fields, *told]


async def answered(gate: Gate, client: Client, request: Request) -> Denial:
    """The answer of an identity endpoint to a request for one, or why there is none. Raises LookupError."""
    endpoints, generation = gate.endpoints, gate.generation
    if endpoints is None:
        raise LookupError("there are no identity endpoints")
    if gate.draining:
        return await gate.refuse(client, request, Reason.SHUTTING_DOWN)
    if generation.policy_of(request.sandbox) is None:
        return await gate.refuse(client, request, Reason.SANDBOX_UNKNOWN)
    answer = endpoints.answer(request, wall_clock(), generation.credentials.placeholder)
    verdict, reason = (
        (Verdict.ALLOW, Reason.IDENTITY_PLACEHOLDER) if answer.given else (Verdict.DENY, Reason.IDENTITY_REFUSED)
    )
    told = OwnAnswer(
        new_decision_id(), reason, answer.detail, verdict, host=request.host.text, port=request.port, answer=answer
    )
    decision = Decision(verdict, reason, answer.detail, ())
    event = gate.recorder.event(told.decision_id, (client, request, None), decision, generation.digest)
    if not answer.given and gate.recorder.counts(event):
        return told
    if not await gate.recorder.record(event):
        return Denial(told.decision_id, Reason.AUDIT_UNAVAILABLE, host=request.host.text, port=request.port)
    now = time.time_ns() // 1000
    gate.recorder.audit.offer(OutcomeEvent(id=told.decision_id, time_us=now, status=told.status, duration_us=0))
    return told

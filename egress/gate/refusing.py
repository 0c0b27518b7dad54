"""A refusal: its row in the audit, then what the client is told.

INVARIANT every-decision-leaves-a-record: what is told of was offered to the audit first, one by one or as a count.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from egress.audit import OutcomeEvent
from egress.gate.denial import Denial
from egress.gate.identity import as_unknown
from egress.gate.ids import new_decision_id
from egress.gate.permit import Refused
from egress.gate.shares import limit_detail
from egress.policy import Decision, Reason

if TYPE_CHECKING:
    from egress.gate.exchange import Client
    from egress.gate.generation import Generation
    from egress.gate.permit import Permit
    from egress.gate.quota import Over
    from egress.gate.record import Recorder
    from egress.policy import Request

logger = logging.getLogger(__name__)


async def record_refusal(
    generation: Generation, recorder: Recorder, asked: tuple[Client, Request, str | None], refused: Refused
) -> Denial:
    """Record a refusal and return it as it is told. `asked`: the client, its request, the SNI of its hello."""
    client, request, sni = asked
    decision_id = new_decision_id()
    said, verdict = refused.decision, refused.verdict
    rule = None if said is None else said.rule
    labels = () if said is None else said.labels
    denied = Decision(verdict, refused.reason, refused.detail, () if said is None else said.says, rule, labels=labels)
    host, port, retry = request.host.text, request.port, refused.retry_after
    denial = Denial(decision_id, refused.reason, refused.detail, verdict, rule, host, port, retry)
    if refused.reason is Reason.SANDBOX_UNKNOWN:
        client, denial = as_unknown(generation.roster, client, denial)
    digest = refused.digest or generation.digest
    event = recorder.event(decision_id, (client, request, sni), denied, digest, sent=refused.sent)
    if recorder.counts(event):
        return denial
    if await recorder.record(event):
        now = time.time_ns() // 1000
        recorder.audit.offer(OutcomeEvent(id=decision_id, time_us=now, status=denial.status, duration_us=0))
    else:
        logger.error("a denial could not be recorded: %s", refused.reason.value)
    return denial


def refused_over(over: Over, permitted: Permit, generation: Generation) -> Refused:
    """A limit of a rule that allows is reached."""
    digest = generation.digest
    return Refused(over.reason, limit_detail(over), permitted.decision, digest, permitted.request, over.seconds)

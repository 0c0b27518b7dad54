"""What a new policy, or a rule that expires, denies of what is open: found again, cut, and on record.

1. an exchange under way is asked about as it was asked for; what would go elsewhere now is cut too
2. a connection that stands idle is asked about as its CONNECT was, and its end gets a row of its own
3. INVARIANT fail-closed: what cannot be judged again is cut
4. INVARIANT reload-is-atomic: one connection's end does not keep the others
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from egress.audit import OutcomeEvent
from egress.gate.connecting import decide_connect
from egress.gate.ids import new_decision_id
from egress.gate.permit import Refused
from egress.policy import Decision, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.gate.exchange import Exchange
    from egress.gate.generation import Generation
    from egress.gate.record import Recorder
    from egress.gate.standing import Standing

logger = logging.getLogger(__name__)

# The outcome of what a reload cut.
RELOADED = "policy-reload"
NOW_DENIED = "the policy was reloaded and denies it"
NO_SANDBOX = "the sandbox is not known any more"
# That of what a rule let pass until it expired.
EXPIRED = "the rule that allowed it has expired"


def cut_exchanges(exchanges: Iterable[Exchange], generation: Generation, code: str, detail: str) -> int:
    """Cut those that a generation denies, with a code and a sentence as their outcome. Returns how many."""
    doomed = [exchange for exchange in exchanges if not still_allowed(exchange, generation)]
    for exchange in doomed:
        try:
            exchange.finish(f"{code}: {detail}")
            exchange.cut(code)
        except Exception:  # INVARIANT reload-is-atomic: one connection's end must not keep the others
            logger.exception("a connection that the new policy denies could not be cut")
    return len(doomed)


def still_allowed(exchange: Exchange, generation: Generation) -> bool:
    """Whether a generation lets an exchange go on as it does."""
    asked = exchange.asked or exchange.request
    policy = generation.policy_of(asked.sandbox)
    if policy is None:
        return False
    try:
        now = policy.follow(asked, policy.decide_request(asked))
        # What would go elsewhere now is as good as denied where it goes.
        same = now.request == exchange.request
        return same and bool(policy.decide_address(now.request, now.decision, exchange.addresses).addresses)
    except Exception:
        logger.exception("a connection could not be judged again, and is cut")
        return False


def cut_standing(
    standing: Iterable[Standing], generation: Generation, recorder: Recorder, code: str, detail: str
) -> int:
    """Cut the idle connections that a generation would not let in, each on record. Returns how many."""
    return sum([_cut_if_denied(one, generation, recorder, code, detail) for one in tuple(standing)])


def _cut_if_denied(standing: Standing, generation: Generation, recorder: Recorder, code: str, detail: str) -> bool:
    try:
        denied = _denied_now(standing, generation)
        if denied is None:
            return False
        gone = denied.reason is Reason.SANDBOX_UNKNOWN
        _record_cut(standing, denied, generation, recorder, f"{code}: {NO_SANDBOX if gone else detail}")
    except Exception:
        logger.exception("a connection could not be judged again, and is cut")
    try:
        standing.cut(code)
    except Exception:  # INVARIANT reload-is-atomic: as above
        logger.exception("a connection that the new policy denies could not be cut")
    return True


def _denied_now(standing: Standing, generation: Generation) -> Refused | None:
    policy = generation.policy_of(standing.client.sandbox)
    if policy is None:
        # Nobody's connection that has not said who it is may still do so.
        return Refused(Reason.SANDBOX_UNKNOWN, "") if standing.bound or standing.client.settled else None
    return decide_connect(policy, standing.request).denied if standing.bound else None


def _record_cut(standing: Standing, denied: Refused, generation: Generation, recorder: Recorder, detail: str) -> None:
    """The row of a connection on which nothing was under way; nothing waits for it, since it closes anyhow."""
    decision_id = new_decision_id()
    said = denied.decision
    decision = Decision(denied.verdict, denied.reason, detail, (), None if said is None else said.rule)
    event = recorder.event(decision_id, (standing.client, standing.request, None), decision, generation.digest)
    now = time.time_ns() // 1000
    outcome = OutcomeEvent(id=decision_id, time_us=now, error=detail)
    if not (recorder.audit.offer(event) and recorder.audit.offer(outcome)):
        logger.error("the end of an idle connection could not be recorded")

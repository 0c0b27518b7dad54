"""Connections that stand idle towards a destination: allowed once by their CONNECT, with no request under way.

A reload that would not let them in any more ends them, on record, as it ends what is under way: a client must not find
out with its next request only that it speaks to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from egress.gate.permit import Refused
from egress.policy import Certainty, Protocol, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.exchange import Client
    from egress.policy import Decision, NameDecision, Policy, Request


@dataclass(frozen=True, slots=True)
class Standing:
    """One such connection: who asked, for what (as its CONNECT was judged), and what ends it with a reason code.

    `bound` False: it leads nowhere, since its client speaks to the proxy itself; only who that is counts.
    """

    client: Client
    request: Request
    cut: Callable[[str], None]
    bound: bool = True


@dataclass(frozen=True, slots=True)
class ConnectDecisions:
    """What a policy says of a CONNECT, whatever may come inside: TLS, HTTP, or neither."""

    https: NameDecision
    http: NameDecision
    tcp: Decision

    @property
    def denied(self) -> Refused | None:
        """Why nothing may come, as it helps most. None: something may.

        Of what one scope allows, why another does not; else a rule's word before none.
        """
        possible = self.https.certainty is not Certainty.NO or self.http.certainty is not Certainty.NO
        if possible or self.tcp.allowed:
            return None
        candidates = (self.https.decision, self.http.decision, self.tcp)
        best = next((decision for decision in candidates if _is_allowed_by_some(decision)), None)
        best = best or next((decision for decision in candidates if decision.rule is not None), self.https.decision)
        return Refused(best.reason, best.detail, best)


def _is_allowed_by_some(decision: Decision) -> bool:
    return any(say.verdict is Verdict.ALLOW for say in decision.says)


def decide_connect(policy: Policy, request: Request) -> ConnectDecisions:
    """Ask for each of the three. `request` is one for https, without a method."""
    return ConnectDecisions(
        policy.decide_name(request),
        policy.decide_name(replace(request, protocol=Protocol.HTTP)),
        policy.decide_request(replace(request, protocol=Protocol.TCP)),
    )

"""What a policy says of a CONNECT, by names alone: why nothing may come inside, or what may.

The three that may come are asked about at once: TLS, HTTP, and raw TCP.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from egress.gate.permit import Refused
from egress.policy import Certainty, Protocol, TlsMode, Verdict

if TYPE_CHECKING:
    from egress.policy import Decision, Host, NameDecision, Policy, Request


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination that a client may go on towards, and what it may turn out to carry.

    `opaque` is True if raw TCP is allowed by a rule; `tls` says whether a TLS hello is passed unopened or opened, `ech`
    whether one that hides a second name (RFC 9849) may pass unopened: only where a rule asks for a tunnel outright.
    `http2`: a rule asks that clients which offer HTTP/2 get it. `presentable`: our CA may sign for it, so TLS can be
    opened.
    """

    host: Host
    port: int
    tls: TlsMode
    https: bool
    http: bool
    opaque: bool
    ech: bool = False
    http2: bool = False
    presentable: bool = True


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
        if self._tells_more or self.tcp.allowed:
            return None
        candidates = (self.https.decision, self.http.decision, self.tcp)
        best = next((decision for decision in candidates if _is_allowed_by_some(decision)), None)
        best = best or next((decision for decision in candidates if decision.rule is not None), self.https.decision)
        return Refused(best.reason, best.detail, best)

    @property
    def only_raw(self) -> bool:
        """Whether raw TCP may come, and nothing that says more of itself."""
        return self.tcp.allowed and not self._tells_more

    def destination(self, policy: Policy, request: Request, *, presentable: bool) -> Destination:
        """Where a request that is not denied may go on. `policy` is the one that was asked."""
        https = self.https
        return Destination(
            request.host,
            request.port,
            https.tls,
            https=https.certainty is not Certainty.NO,
            http=self.http.certainty is not Certainty.NO,
            opaque=self.tcp.allowed,
            ech=not _is_auto(policy, https),
            http2=https.http2,
            presentable=presentable,
        )

    @property
    def _tells_more(self) -> bool:
        return self.https.certainty is not Certainty.NO or self.http.certainty is not Certainty.NO


def decide_connect(policy: Policy, request: Request) -> ConnectDecisions:
    """Ask for each of the three. `request` is one for https, without a method."""
    return ConnectDecisions(
        policy.decide_name(request),
        policy.decide_name(replace(request, protocol=Protocol.HTTP)),
        policy.decide_request(replace(request, protocol=Protocol.TCP)),
    )


def _is_allowed_by_some(decision: Decision) -> bool:
    return any(say.verdict is Verdict.ALLOW for say in decision.says)


def _is_auto(policy: Policy, https: NameDecision) -> bool:
    """Whether a tunnel may be one only because nothing needed the inside."""
    rules = https.decision.rules
    return any(rule.tls is TlsMode.AUTO for rule in rules) or any(scope.tls is TlsMode.AUTO for scope in policy.scopes)

"""What an explanation says: the verdict and why, what is changed and dialled, and every rule that was tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.policy import TEXTS, Decision, Reason, Request, Verdict
from egress.review.spelling import limits_values, network_text, signing_values, swap_values
from egress.review.tried import tried_json

if TYPE_CHECKING:
    from egress.policy import Lane, Network, ReasonText, RuleRef, Say
    from egress.review.spelling import JsonObject
    from egress.review.tried import ScopeTried


@dataclass(frozen=True, slots=True)
class AddressJudgement:
    """What the address step said: which addresses may be dialled, and why the others may not."""

    allowed: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One answer. `request` is what was judged, None for what could not be read; `notes` are sentences for people.

    `asked` is the decision on the request as it was asked, and `sent` the request that would go up, where a rule
    rewrites it: `decision` is then the one on that. `lane` is what carries the request, or refuses it; None where it is
    refused before a lane is picked. `tried` are the rules that were held against the request, where asked for.
    """

    verdict: Verdict
    reason: Reason
    detail: str
    request: Request | None = None
    decision: Decision | None = None
    addresses: AddressJudgement | None = None
    notes: tuple[str, ...] = field(default=())
    lane: Lane | None = None
    tried: tuple[ScopeTried, ...] = field(default=())
    asked: Decision | None = None
    sent: Request | None = None

    @property
    def rule(self) -> RuleRef | None:
        """The rule that decided: of a rewritten request that is allowed the one that rewrote it, as in the audit."""
        decision = self.asked if self.allowed and self.asked is not None else self.decision
        return None if decision is None else decision.rule

    @property
    def text(self) -> ReasonText:
        """The reason for people."""
        return TEXTS[self.reason]

    @property
    def allowed(self) -> bool:
        """True only for the verdict `allow`."""
        return self.verdict is Verdict.ALLOW

    def as_json(self) -> JsonObject:
        """The answer as plain values; the first seven keys are always there."""
        request = self.request
        answer: JsonObject = {
            "verdict": self.verdict.value,
            "reason": self.reason.value,
            "rule": _rule_json(self.rule),
            "host": request.host.text if request else None,
            "port": request.port if request else None,
            "detail": self.detail,
            "lane": None if self.lane is None else self.lane.value,
        }
        if request is not None:
            answer |= {
                "protocol": request.protocol.value,
                "method": request.method,
                "path": request.path,
                "sandbox": request.sandbox,
            }
        asked = self.asked or self.decision
        if asked is not None:
            answer["scopes"] = [_say_json(say) for say in asked.says]
        if self.asked is not None:
            answer["rewritten"] = self._rewritten_json(self.asked)
        if self.tried:
            answer["tried"] = tried_json(self.tried)
        if self.decision is not None and self.allowed:
            answer["tls"] = self.decision.tls.word
            answer["headers"] = {
                "set": [
                    {"name": injection.header, "secrets": list(injection.secrets)} for injection in self.decision.inject
                ],
                "remove": list(self.decision.remove),
            }
            answer["sign"] = signing_values(self.decision.sign)
            answer["swap"] = swap_values(self.decision.swap)
            answer["limits"] = [limits_values(limits) for _, limits in self.decision.limits]
        if self.addresses is not None:
            answer["addresses"] = {
                "allowed": list(self.addresses.allowed),
                "dropped": [{"address": address, "why": why} for address, why in self.addresses.dropped],
            }
        elif self.allowed and self.decision is not None:
            answer["addresses"] = {"public": True, "ranges": dialable(self.decision)}
        answer["notes"] = list(self.notes)
        return answer

    def _rewritten_json(self, asked: Decision) -> JsonObject:
        """Which rule rewrote it, to what, and what the scopes say to that; no scopes where it cannot be rewritten."""
        sent, decision = self.sent, self.decision
        return {
            "by": _rule_json(asked.rule),
            "protocol": sent.protocol.value if sent else None,
            "host": sent.host.text if sent else None,
            "port": sent.port if sent else None,
            "path": sent.path if sent else None,
            "scopes": [_say_json(say) for say in decision.says] if sent and decision else [],
        }


def dialable(decision: Decision) -> list[str]:
    """The ranges besides the public Internet in which the destination may be: all rules that allowed must agree."""
    agreed: list[Network] | None = None
    for rule in decision.rules:
        own = list(rule.addresses)
        agreed = own if agreed is None else [_narrower(one, other) for one, other in _meeting(agreed, own)]
    return list(dict.fromkeys(network_text(network) for network in agreed or ()))


def _meeting(some: list[Network], others: list[Network]) -> list[tuple[Network, Network]]:
    return [(one, other) for one in some for other in others if one.version == other.version and one.overlaps(other)]


def _narrower(one: Network, other: Network) -> Network:
    return max(one, other, key=lambda network: network.prefixlen)


def _rule_json(rule: RuleRef | None) -> JsonObject | None:
    if rule is None:
        return None
    return {"name": rule.name, "scope": rule.scope.value, "file": rule.file, "line": rule.line}


def _say_json(say: Say) -> JsonObject:
    return {
        "scope": say.scope.value,
        "verdict": None if say.verdict is None else say.verdict.value,
        "reason": say.reason.value,
        "rule": _rule_json(say.rule),
    }

"""Which names a sandbox may ask DNS for: those that a rule of its policy could let it reach, or lets it ask for.

1. a rule, or default, that speaks of questions themselves (`protocol: dns`) and allows: any question for the name
2. such a rule that denies or asks: none, whatever else is allowed of the host
3. else a host that could be connected to, by whatever protocol and on whatever port: its addresses alone

Nothing is resolved here, so nothing that leaves tells of a name that no rule could allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.policy.addresses import classify
from egress.policy.decision import Decision
from egress.policy.names import MAX_PORT
from egress.policy.protocol_bits import BIT
from egress.policy.reasons import Reason
from egress.policy.request import Request
from egress.policy.vocabulary import Certainty, Protocol, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.policy.compiled import CompiledRule, Entry
    from egress.policy.decide import Policy
    from egress.policy.values import Address, Host

_PORT: Final = 53
# A name with more ports than this is known by the first of them: what is not asked is denied.
_PORTS_AT_MOST: Final = 256
_USUAL: Final = (443, 80)
CONNECTIONS: Final = tuple(protocol for protocol in Protocol if protocol is not Protocol.DNS)


@dataclass(frozen=True, slots=True)
class QuestionDecision:
    """What becomes of questions for a name.

    `decision` is on the name; `request` is what it was made for. `stated`: on any question of it; else `further` is the
    denial of those that are not for addresses. `could`: the request will decide, so nobody knows yet which rule will.
    """

    request: Request
    decision: Decision
    stated: bool
    further: Decision
    could: bool = False


def decide_question(policy: Policy, sandbox: str, host: Host) -> QuestionDecision:
    """May a sandbox ask for this name? Total: what cannot be read is denied."""
    asked = Request(sandbox, Protocol.DNS, host, _PORT)
    told = policy.decide_name(asked)
    outright = QuestionDecision(asked, told.decision, stated=told.decision.allowed, further=told.decision)
    enforced = told.decision.reason is not Reason.WOULD_DENY
    if told.decision.allowed and enforced:
        return outright
    entries = () if host.address is not None else policy.named_by(host)
    if enforced and _speaks_of_questions(told.decision, entries):
        return outright
    found = _reached(policy, sandbox, host, entries)
    if not found.allowed and told.decision.allowed:
        return outright
    # Of a name that is asked for in report mode, everything would pass.
    return QuestionDecision(found.request, found.decision, outright.stated, told.decision, found.could)


def question_addresses(policy: Policy, question: QuestionDecision, addresses: Sequence[Address]) -> AddressesTold:
    """Which addresses of the name may be told: those that a connection which the decision is about could reach."""
    if not question.could:
        judged = policy.decide_address(question.request, question.decision, addresses)
        return AddressesTold(judged.addresses, judged.decision)
    entries = [entry for entry in policy.named_by(question.request.host) if entry.rule.allows]
    passing = list(addresses)
    refusal = question.decision
    for scope, own in enumerate(policy.scopes):
        of_scope = [entry.rule for entry in entries if entry.rule.scope == scope]
        if not of_scope:
            # INVARIANT private-by-default: a scope that allows by its default agrees to public addresses only.
            if own.default is Verdict.ALLOW and not own.narrows:
                passing = [address for address in passing if classify(address).public]
            continue
        agreed: set[Address] = set()
        for rule in of_scope:
            judged = policy.decide_address(question.request, _alone(rule), addresses)
            agreed.update(judged.addresses)
            refusal = refusal if judged.addresses else judged.decision
        passing = [address for address in passing if address in agreed]
    return AddressesTold(tuple(passing), refusal)


@dataclass(frozen=True, slots=True)
class AddressesTold:
    """The addresses that may be told, in the resolver's order; without any, `decision` is the denial, if one was."""

    addresses: tuple[Address, ...]
    decision: Decision


@dataclass(frozen=True, slots=True)
class _Reached:
    request: Request
    decision: Decision
    could: bool = False

    @property
    def allowed(self) -> bool:
        return self.could or self.decision.allowed


def _reached(policy: Policy, sandbox: str, host: Host, entries: Sequence[Entry]) -> _Reached:
    """The first connection that could be had, rather one that is not only let pass by report mode."""
    usual = Request(sandbox, Protocol.HTTPS, host, _USUAL[0])
    first = _Reached(usual, policy.decide_name(usual).decision)
    reported: _Reached | None = None
    # Where no rule names the host, what is said of it is the same for every protocol and port.
    for port in _ports(entries) if entries else _USUAL[:1]:
        for protocol in CONNECTIONS:
            request = Request(sandbox, protocol, host, port)
            told = policy.decide_name(request)
            if told.certainty is Certainty.MAYBE:
                return _Reached(request, _by_rule(request, entries), could=True)
            if told.certainty is Certainty.YES and told.decision.reason is not Reason.WOULD_DENY:
                return _Reached(request, told.decision)
            if told.certainty is Certainty.YES:
                reported = reported or _Reached(request, told.decision)
    return reported or first


def _ports(entries: Iterable[Entry]) -> Iterable[int]:
    """Every port at which what the rules say of the host could change: where a range begins, and behind its end.

    Between two of them the same rules speak.
    """
    ports = dict.fromkeys(_USUAL)
    for entry in entries:
        for first, last in entry.ports or ():
            ports[first] = None
            if last < MAX_PORT:
                ports[last + 1] = None
            if len(ports) >= _PORTS_AT_MOST:
                return tuple(ports)
    ports[1] = None
    return tuple(ports)


def _by_rule(request: Request, entries: Sequence[Entry]) -> Decision:
    """The answer where the request will decide: the first rule that could allow one is told."""
    bit = BIT[request.protocol]
    named = [entry.rule for entry in entries if entry.rule.allows and entry.protocols & bit]
    detail = f"A rule could allow requests to `{request.host.text}`; each is judged when it comes."
    rule = named[0].ref if named else None
    reason = Reason.RULE_ALLOW if named else Reason.DEFAULT_ALLOW
    return Decision(Verdict.ALLOW, reason, detail, (), rule)


def _alone(rule: CompiledRule) -> Decision:
    """The decision that this rule alone would make."""
    return Decision(Verdict.ALLOW, Reason.RULE_ALLOW, "", (rule.say,), rule.ref, (rule.rule,))


def _speaks_of_questions(decision: Decision, entries: Sequence[Entry]) -> bool:
    """Whether a rule that names DNS refused."""
    refusing = {say.rule for say in decision.says if say.verdict in {Verdict.DENY, Verdict.ASK}}
    stating = [entry.rule for entry in entries if Protocol.DNS in (entry.rule.rule.protocols or ())]
    return any(rule.ref in refusing and not rule.allows for rule in stating)

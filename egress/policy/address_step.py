"""The third step: which of the addresses that a name resolved to may be dialled.

An address passes if all of this holds:

1. it is not the unspecified address;
2. no deny or ask of a CIDR, of any scope and wherever it stands in its file, holds any reading of it;
3. each scope that allowed the request agrees: the address is public, or in the `addresses` of the rule that allowed,
   or the destination was an address and the rule names it. A scope that allows by default agrees to public only.

INVARIANT private-by-default: every reading of an address (mapped, NAT64, 6to4 and so on) must pass, and a metadata
service must be named by its own address, never by a range around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy import law
from egress.policy.addresses import AddressClass, classify, named_range, own_class, readings, unmap
from egress.policy.compiled import REASON_OF_VERDICT
from egress.policy.conditions import SPEAKS, Question, fit_known, fit_opaque
from egress.policy.decision import AddressDecision, Decision, RuleRef
from egress.policy.reasons import Reason
from egress.policy.targets import unmap_network
from egress.policy.vocabulary import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.policy.compiled import CompiledRule
    from egress.policy.decision import Say
    from egress.policy.index import Index
    from egress.policy.request import Request
    from egress.policy.values import Address, Rule


def judge(
    index: Index, request: Request, decision: Decision, addresses: Sequence[Address], now: float = 0.0
) -> AddressDecision:
    """Addresses that pass, unmapped, in the resolver's order and once each; a denial if none does.

    `now`: seconds since 1970, for rules that expire.
    """
    if not decision.allowed:
        return AddressDecision((), decision)
    if not addresses:
        return AddressDecision((), law.refuse(request, Verdict.DENY, Reason.NAME_NOT_RESOLVED, decision.says))
    passed: list[Address] = []
    dropped: list[tuple[Address, Decision]] = []
    for address in dict.fromkeys(map(unmap, addresses)):
        denial = _judge_one(index, request, decision, address, now)
        if denial is None:
            passed.append(address)
        else:
            dropped.append((address, denial))
    told = tuple((address, denial.detail) for address, denial in dropped)
    if passed:
        return AddressDecision(tuple(passed), decision, told)
    # The strictest of what was said, as everywhere; of equals the first in the resolver's order.
    denials = [denial for _, denial in dropped]
    worst = next((denial for denial in denials if denial.verdict is Verdict.DENY), denials[0])
    return AddressDecision((), worst, told)


def _judge_one(index: Index, request: Request, decision: Decision, address: Address, now: float) -> Decision | None:
    literal = request.host.address
    if literal is not None and unmap(literal) != address:
        detail = f"The destination is {request.host}, so {address} is not dialled."
        return _denial(decision, Reason.ADDRESS_NOT_ALLOWED, detail, None)
    held = _held(index, request, address, now)
    if held is not None:
        return _held_denial(request, decision, address, held)
    if classify(address).public:
        return None
    for rule in _agreeing(decision):
        if rule is None or not _names(rule, address, None if literal is None else index):
            return _not_public(request, decision, address, rule)
    return None


def _held(index: Index, request: Request, address: Address, now: float) -> CompiledRule | None:
    """The deny, else the ask, of a range that holds the address and whose other conditions hold."""
    entries = index.holding(address)
    if not entries:
        return None
    question = Question(request, now)
    fit = fit_opaque if request.method is None else fit_known
    asks: CompiledRule | None = None
    for entry in entries:
        if fit(entry, question) >= SPEAKS:
            if entry.rule.verdict is Verdict.DENY:
                return entry.rule
            asks = asks or entry.rule
    return asks


def _agreeing(decision: Decision) -> Iterator[Rule | None]:
    """What each scope that allowed stands on: its rule, or None for its default. Never empty."""
    rules = iter(decision.rules)
    allowing = [say for say in decision.says if say.verdict is Verdict.ALLOW]
    if not allowing:
        yield None
    for say in allowing:
        yield None if say.rule is None else next(rules, None)


def _names(rule: Rule, address: Address, targets: Index | None) -> bool:
    """Whether a range of the rule holds every reading; `targets`: the destination was named as an address."""
    return all(_passes(rule, reading, targets) for reading in readings(address))


def _passes(rule: Rule, reading: Address, targets: Index | None) -> bool:
    kind = own_class(reading)
    if kind.public:
        return True
    # Connecting to the unspecified address reaches loopback, whatever range names it.
    if kind is AddressClass.UNSPECIFIED:
        return False
    # A service of metadata is opened by its own address only, never by a range around it.
    alone = kind is AddressClass.METADATA
    if targets is not None and targets.names_address(rule, reading, alone=alone):
        return True
    return any(
        reading in network and (network.prefixlen == network.max_prefixlen or not alone)
        for network in map(unmap_network, rule.addresses)
    )


def _held_denial(request: Request, decision: Decision, address: Address, rule: CompiledRule) -> Decision:
    what = f"{request.host} resolves to {address}" if request.host.address is None else f"The destination is {address}"
    if rule.verdict is Verdict.ASK:
        detail = f"{what}, and a rule asks a person before that address is reached; approvals are not available."
        return Decision(Verdict.ASK, REASON_OF_VERDICT[Verdict.ASK], detail, decision.says, rule.ref)
    return _denial(decision, Reason.ADDRESS_DENIED, f"{what}, which a rule denies.", rule.ref)


def _not_public(request: Request, decision: Decision, address: Address, rule: Rule | None) -> Decision:
    kind = classify(address)
    host = request.host
    what = f"{host} resolves to {address} ({kind})" if host.address is None else f"The destination {address} is {kind}"
    ref = next((say.rule for say, own in _with_rules(decision) if own is rule), None)
    if kind is AddressClass.UNSPECIFIED:
        hint = "no rule can open that address"
    elif rule is None:
        hint = f"a default of allow reaches public addresses only; add a rule that names `{named_range(address)}`"
    elif host.address is not None:
        hint = f"name the address itself, as in `allow: {named_range(address).network_address}`"
    else:
        hint = f"add `addresses: [{named_range(address)}]` to the rule that allows `{host}`"
    return _denial(decision, Reason.ADDRESS_NOT_PUBLIC, f"{what}; {hint}.", ref)


def _with_rules(decision: Decision) -> Iterator[tuple[Say, Rule | None]]:
    allowing = [say for say in decision.says if say.verdict is Verdict.ALLOW]
    return zip(allowing, _agreeing(decision), strict=False)


def _denial(decision: Decision, reason: Reason, detail: str, rule: RuleRef | None) -> Decision:
    return Decision(Verdict.DENY, reason, detail, decision.says, rule)

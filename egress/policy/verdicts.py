"""What all scopes together say to one request, by the rules that name its destination.

Within a scope the first rule that matches speaks, else the scope's default, if it states one. Across scopes: `law`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.policy import law
from egress.policy.conditions import REASON_OF_MISS, SPEAKS, Fit
from egress.policy.decision import Say
from egress.policy.reasons import Reason
from egress.policy.vocabulary import Mode, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.policy.compiled import CompiledRule, Entry
    from egress.policy.conditions import Question
    from egress.policy.decision import Decision
    from egress.policy.request import Request
    from egress.policy.survey import Survey
    from egress.policy.values import ScopeRules

_REASON_OF_DEFAULT: Final = {Verdict.ALLOW: Reason.DEFAULT_ALLOW, Verdict.ASK: Reason.APPROVAL_REQUIRED}
_AGREED_AT_MOST: Final = 4_096


class Verdicts:
    """The scopes of a policy, and what they make of the rules that speak. Immutable, but for what it remembers."""

    __slots__ = (
        "_agreed_by",
        "_alone",
        "_default_tls",
        "_narrowing",
        "_reporting",
        "_silent_address",
        "passes_unnamed",
        "silent",
    )

    def __init__(self, scopes: Sequence[ScopeRules]) -> None:
        self.silent = tuple(_silence(scope, Reason.HOST_NOT_ALLOWED) for scope in scopes)
        self._silent_address = tuple(_silence(scope, Reason.ADDRESS_NOT_ALLOWED) for scope in scopes)
        self._default_tls = tuple(TlsMode.INSPECT if scope.tls is None else scope.tls for scope in scopes)
        # For each scope, whether no other states a default; then where its rule spoke alone, nobody else said anything.
        self._alone = tuple(
            not scope.narrows and all(other.default is None for other in scopes if other is not scope)
            for scope in scopes
        )
        # For each scope, whether its allow is none where no other scope allows. Empty where that holds of none.
        self._narrowing = tuple(scope.narrows for scope in scopes) if any(scope.narrows for scope in scopes) else ()
        # The TLS mode of each scope in report mode; None for one that enforces. Empty where all enforce.
        reporting = [scope.mode is Mode.REPORT for scope in scopes]
        modes = zip(reporting, self._default_tls, strict=True)
        self._reporting = tuple(mode if reports else None for reports, mode in modes) if any(reporting) else ()
        # Whether a destination that no rule names may pass.
        self.passes_unnamed = any(reporting) or any(scope.default is Verdict.ALLOW for scope in scopes)
        # What scopes agreed on, by the identities of what they said; and whether the request was opaque.
        self._agreed_by: dict[tuple[int, ...], tuple[tuple[Say, ...], Decision]] = {}

    def judge(
        self, request: Request, entries: Sequence[Entry], question: Question, fit: Callable[[Entry, Question], Fit]
    ) -> Decision:
        """First match within each scope, then the law across them."""
        says = list(self.silence_for(request))
        rules: list[CompiledRule] = []
        nearest: dict[int, tuple[Fit, CompiledRule]] = {}
        spoken = -1
        speakers = 0
        for entry in entries:
            rule = entry.rule
            if rule.scope == spoken:
                continue
            how = fit(entry, question)
            if how >= SPEAKS:
                spoken = rule.scope
                speakers += 1
                says[spoken] = rule.say if how is Fit.MATCH else rule.doubt_say
                if rule.allows:
                    rules.append(rule)
            elif rule.allows and (rule.scope not in nearest or how > nearest[rule.scope][0]):
                nearest[rule.scope] = (how, rule)
        explained = bool(nearest) and _explain(says, nearest)
        if not explained and speakers == len(rules) == 1 and self._alone[spoken] and request.host.address is None:
            return self._sole(request, says, rules[0])
        return self.conclude(request, tuple(says), rules)

    def agreed(self, request: Request, survey: Survey) -> Decision:
        """The allow of a destination whose every request is allowed, under the rules that hold at the latest."""
        rules = [rule for rule in survey.definite if rule is not None and rule.allows]
        says = list(self.silence_for(request))
        for rule in rules:
            says[rule.scope] = rule.say
        return self.conclude(request, tuple(says), rules)

    def conclude(self, request: Request, says: tuple[Say, ...], rules: list[CompiledRule]) -> Decision:
        """The decision of what each scope said; `rules` are those that said allow."""
        if not rules:
            return self._weigh(request, says, rules)
        # Rules say the same object each time they speak, so that an allow is the same for all requests that they speak
        # of alike. A refusal names its host.
        key = (request.method is None, *map(id, says))
        known = self._agreed_by.get(key)
        if known is not None:
            return known[1]
        decision = self._weigh(request, says, rules)
        if decision.reason is Reason.RULE_ALLOW:
            if len(self._agreed_by) >= _AGREED_AT_MOST:
                self._agreed_by.clear()
            # What was said stays alive with it: an identity is nobody else's meanwhile.
            self._agreed_by[key] = (says, decision)
        return decision

    def silence_for(self, request: Request) -> tuple[Say, ...]:
        """What the scopes say where no rule speaks."""
        return self.silent if request.host.address is None else self._silent_address

    def _sole(self, request: Request, says: list[Say], rule: CompiledRule) -> Decision:
        """The decision where one rule allows and no other scope says anything: the same for every request."""
        opaque = request.method is None
        decision = rule.sole[opaque]
        if decision is None:
            decision = law.allow(rule.say, tuple(says), [rule], (), opaque=opaque)
            rule.sole[opaque] = decision
        return decision

    def _weigh(self, request: Request, says: tuple[Say, ...], rules: list[CompiledRule]) -> Decision:
        say = law.strictest(says)
        if self._narrowing and say is not None and say.verdict is Verdict.ALLOW and self._only_narrowed(says):
            says = tuple(law.muted(own) for own in says)
            say = law.strictest(says)
        if say is not None and say.verdict is Verdict.ALLOW:
            return law.allow(say, says, rules, self._modes_of_defaults(says), opaque=request.method is None)
        refused = self._refusal(request, say, says)
        if not self._reporting:
            return refused
        return law.report(request, refused, says, self._reporting, rules)

    def _only_narrowed(self, says: tuple[Say, ...]) -> bool:
        pairs = zip(self._narrowing, says, strict=True)
        return all(narrows for narrows, say in pairs if say.verdict is Verdict.ALLOW)

    def _refusal(self, request: Request, say: Say | None, says: tuple[Say, ...]) -> Decision:
        if say is not None:
            verdict = Verdict.DENY if say.verdict is None else say.verdict
            return law.refuse(request, verdict, say.reason, says, say.rule or say.nearest)
        near = _closest(says)
        if near is not None:
            return law.refuse(request, Verdict.DENY, near.reason, says, near.nearest)
        reason = Reason.HOST_NOT_ALLOWED if request.host.address is None else Reason.ADDRESS_NOT_ALLOWED
        return law.refuse(request, Verdict.DENY, reason, says)

    def _modes_of_defaults(self, says: tuple[Say, ...]) -> list[TlsMode]:
        return [
            mode
            for say, mode in zip(says, self._default_tls, strict=True)
            if say.verdict is Verdict.ALLOW and say.rule is None
        ]


def _silence(scope: ScopeRules, nothing: Reason) -> Say:
    """What a scope says when none of its rules speaks."""
    if scope.default is None:
        return Say(scope.scope, None, nothing)
    return Say(scope.scope, scope.default, _REASON_OF_DEFAULT.get(scope.default, nothing))


def _explain(says: list[Say], nearest: dict[int, tuple[Fit, CompiledRule]]) -> bool:
    """Where no rule of a scope spoke and its default does not allow, say what the closest allow rule lacked."""
    explained = False
    for place, (fit, rule) in nearest.items():
        say = says[place]
        if say.rule is None and (say.verdict is None or say.verdict is Verdict.DENY):
            miss = rule.miss_says.get(fit)
            if miss is None:
                miss = Say(say.scope, say.verdict, REASON_OF_MISS[fit], None, rule.ref)
                rule.miss_says[fit] = miss
            says[place] = miss
            explained = True
    return explained


def _closest(says: tuple[Say, ...]) -> Say | None:
    """Of the scopes that said nothing, the highest whose rule came closest."""
    order = list(REASON_OF_MISS.values())
    near = [say for say in says if say.nearest is not None]
    return max(near, key=lambda say: order.index(say.reason), default=None)

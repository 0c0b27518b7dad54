"""The policy core: a compiled policy, asked in three steps, each of which can only narrow.

1. by name, before any DNS: no, yes, or maybe (the request decides);
2. by request, once the lane has read one; a request that never becomes known is judged as opaque;
3. by address, before anything is dialled (`address_step`).

A request that a rule rewrites takes step two once more, as what it has become (`follow`), and step three as that alone.

Within a scope the first rule that matches speaks, else the scope's default, if it states one. Across scopes: `law`.
Time counts only where a rule says until when it holds; an expired rule is as one that is not there.
Every step is total: for any request there is a decision, and what cannot be read is denied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.policy import address_step, law
from egress.policy.conditions import (
    REASON_OF_MISS,
    SPEAKS,
    TOKEN,
    CompiledRule,
    Entry,
    Fit,
    Question,
    fit_known,
    fit_opaque,
)
from egress.policy.index import Index
from egress.policy.limit_keys import LimitKeys
from egress.policy.names import MAX_PORT, is_canonical_name
from egress.policy.overrides import asks_for_another
from egress.policy.reasons import Reason
from egress.policy.rewrites import Rewritten, rewritten, united
from egress.policy.sandboxes import as_refusal
from egress.policy.survey import Silence, Survey, take_survey
from egress.policy.values import Decision, NameDecision, Refusal, Say, ScopeRules
from egress.policy.vocabulary import OVER_TLS, Certainty, Mode, Protocol, Scope, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.policy.values import Address, AddressDecision, Request

_RANK: Final = {scope: rank for rank, scope in enumerate(Scope)}
_STRICTNESS: Final = {Verdict.ALLOW: 0, Verdict.ASK: 1, Verdict.DENY: 2}
_REASON_OF_DEFAULT: Final = {Verdict.ALLOW: Reason.DEFAULT_ALLOW, Verdict.ASK: Reason.APPROVAL_REQUIRED}
_PASSED_AT_MOST: Final = 4_096
_UNITED_AT_MOST: Final = 256
# Targets of one rule that are compiled in one go.
_REST_EVERY: Final = 250
# Tokens that need no look at their characters.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


# What a name tells that needs its request. Whoever served this decision all the same would deny.
_MAYBE: Final = NameDecision(
    Certainty.MAYBE, Decision(Verdict.DENY, Reason.HOST_NOT_ALLOWED, "What the request asks for decides.", ())
)
_MAYBE_HTTP2: Final = replace(_MAYBE, http2=True)


class Policy:
    """A compiled policy. Immutable; safe to share between threads. `digest` names its source in the audit.

    `clock` tells the time in seconds since 1970; it is asked only where a rule expires.
    """

    __slots__ = (
        "_alone",
        "_clock",
        "_default_tls",
        "_index",
        "_narrowing",
        "_passed",
        "_passes_unnamed",
        "_reporting",
        "_silences",
        "_silent",
        "_silent_address",
        "_united",
        "digest",
        "expiries",
        "scopes",
    )

    def __init__(
        self, scopes: tuple[ScopeRules, ...], digest: str, *, clock: Callable[[], float], rest: Callable[[], None]
    ) -> None:
        self.digest = digest
        self.scopes = scopes
        self._silent = tuple(_silence(scope, Reason.HOST_NOT_ALLOWED) for scope in scopes)
        self._silent_address = tuple(_silence(scope, Reason.ADDRESS_NOT_ALLOWED) for scope in scopes)
        self._silences = tuple(map(Silence, scopes))
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
        self._passes_unnamed = any(reporting) or any(scope.default is Verdict.ALLOW for scope in scopes)
        self._index = _build_index(scopes, rest)
        untils = {rule.until.timestamp() for scope in scopes for rule in scope.rules if rule.until is not None}
        # When rules expire, in seconds since 1970, soonest first.
        self.expiries = tuple(sorted(untils))
        self._clock = clock if untils else _no_time
        # An address that passed, by its identity, and how: kept connections bring the same ones again and again.
        self._passed: dict[int, tuple[Address, AddressDecision]] = {}
        # What two decisions on one rewritten request made together, by their identities.
        self._united: dict[tuple[int, int], tuple[Decision, Decision, Decision]] = {}

    def decide_name(self, request: Request) -> NameDecision:
        """Step one: what protocol, host and port alone tell. Nothing has been resolved yet."""
        refusal = _unreadable(request)
        if refusal is not None:
            return NameDecision(Certainty.NO, law.refuse(request, Verdict.DENY, refusal, self._silent))
        question = Question(request, self._clock())
        entries = self._index.candidates(request.host)
        if not entries and not self._passes_unnamed:
            return NameDecision(Certainty.NO, self._conclude(request, self._silence_for(request), []), TlsMode.INSPECT)
        survey = take_survey(entries, question, self._silences)
        unseen = request.protocol is Protocol.TCP or (request.protocol in OVER_TLS and survey.tunnels)
        certainty = survey.certainty()
        if certainty is Certainty.MAYBE and not unseen:
            return _MAYBE_HTTP2 if survey.http2 else _MAYBE
        opaque = self._judge(_as_opaque(request), entries, question, fit_opaque)
        if unseen:
            return NameDecision(Certainty.YES if opaque.allowed else Certainty.NO, opaque, TlsMode.TUNNEL)
        if certainty is Certainty.YES and not opaque.allowed:
            return NameDecision(certainty, self._agreed(request, survey), TlsMode.INSPECT, survey.http2)
        if opaque.tls is not TlsMode.INSPECT:
            opaque = replace(opaque, tls=TlsMode.INSPECT)
        return NameDecision(certainty, opaque, TlsMode.INSPECT, survey.http2)

    def decide_request(self, request: Request) -> Decision:
        """Step two: the request itself. `method` None: it never becomes known, as in a tunnel or raw TCP."""
        refusal = _unreadable(request)
        if refusal is not None:
            return law.refuse(request, Verdict.DENY, refusal, self._silent)
        entries = self._index.candidates(request.host)
        question = Question(request, self._clock())
        if request.method is None:
            return self._judge(request, entries, question, fit_opaque)
        if request.method not in _METHODS and TOKEN.fullmatch(request.method) is None:
            return law.refuse(request, Verdict.DENY, Reason.METHOD_INVALID, self._silent)
        decision = self._judge(request, entries, question, fit_known)
        if question.looked and decision.verdict is not Verdict.DENY and asks_for_another(request.headers):
            return law.refuse(request, Verdict.DENY, Reason.OVERRIDE_HEADER, decision.says, decision.rule)
        return replace(decision, needs_body=True) if question.wants_body else decision

    def follow(self, request: Request, decision: Decision) -> Rewritten:
        """Step two again, once, for a request that the decision rewrites: what goes up, and under which decision."""
        if not decision.allowed or decision.rewrite is None:
            return Rewritten(request, decision)
        sent = rewritten(request, decision.rewrite)
        if isinstance(sent, Refusal):
            refused = Decision(Verdict.DENY, sent.reason, sent.detail, decision.says, decision.rule)
            return Rewritten(request, refused)
        again = self.decide_request(sent)
        return Rewritten(sent, self._unite(decision, again) if again.allowed else again)

    def decide_address(self, request: Request, decision: Decision, addresses: Sequence[Address]) -> AddressDecision:
        """Step three: which of the addresses may be dialled under the decision that allowed the request."""
        now = self._clock()
        if len(addresses) != 1 or request.host.address is not None:
            return address_step.judge(self._index, request, decision, addresses, now)
        address = addresses[0]
        known = self._passed.get(id(address))
        if known is not None and known[0] is address and known[1].decision is decision:
            return known[1]
        judged = address_step.judge(self._index, request, decision, addresses, now)
        # Where no deny or ask names the address, all requests under the same decision may go there, or none.
        if judged.addresses and not self._index.holding(address):
            if len(self._passed) >= _PASSED_AT_MOST:
                self._passed.clear()
            self._passed[id(address)] = (address, judged)
        return judged

    def fits(self, request: Request) -> list[tuple[CompiledRule, Fit]]:
        """Each target that names the destination, in order, and how far its rule came: for people, not for judging."""
        if _unreadable(request) is not None:
            return []
        question = Question(request, self._clock())
        fit = fit_opaque if request.method is None else fit_known
        return [(entry.rule, fit(entry, question)) for entry in self._index.candidates(request.host)]

    def _unite(self, asked: Decision, sent: Decision) -> Decision:
        """The decision that the two make together, the same object for the same two."""
        key = (id(asked), id(sent))
        known = self._united.get(key)
        if known is not None and known[0] is asked and known[1] is sent:
            return known[2]
        together = united(asked, sent)
        if len(self._united) >= _UNITED_AT_MOST:
            self._united.clear()
        self._united[key] = (asked, sent, together)
        return together

    def _judge(
        self, request: Request, entries: Sequence[Entry], question: Question, fit: Callable[[Entry, Question], Fit]
    ) -> Decision:
        """First match within each scope, then the law across them."""
        says = list(self._silence_for(request))
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
        return self._conclude(request, tuple(says), rules)

    def _sole(self, request: Request, says: list[Say], rule: CompiledRule) -> Decision:
        """The decision where one rule allows and no other scope says anything: the same for every request."""
        opaque = request.method is None
        decision = rule.sole[opaque]
        if decision is None:
            decision = law.allow(rule.say, tuple(says), [rule], (), opaque=opaque)
            rule.sole[opaque] = decision
        return decision

    def _conclude(self, request: Request, says: tuple[Say, ...], rules: list[CompiledRule]) -> Decision:
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

    def _silence_for(self, request: Request) -> tuple[Say, ...]:
        return self._silent if request.host.address is None else self._silent_address

    def _modes_of_defaults(self, says: tuple[Say, ...]) -> list[TlsMode]:
        return [
            mode
            for say, mode in zip(says, self._default_tls, strict=True)
            if say.verdict is Verdict.ALLOW and say.rule is None
        ]

    def _agreed(self, request: Request, survey: Survey) -> Decision:
        """The allow of a destination whose every request is allowed, under the rules that hold at the latest."""
        rules = [rule for rule in survey.definite if rule is not None and rule.allows]
        says = list(self._silence_for(request))
        for rule in rules:
            says[rule.scope] = rule.say
        return self._conclude(request, tuple(says), rules)


def compile_policy(
    scopes: Sequence[ScopeRules], *, digest: str, clock: Callable[[], float], rest: Callable[[], None] | None = None
) -> Policy:
    """The policy of these scopes, in any order. Several of one scope become one list, strictest default and TLS.

    `rest` is called now and then, so that a thread which compiles beside other work can give way to it.
    """
    # A scope that can only narrow stays apart: what stands before it in one list would keep it from narrowing.
    merged: dict[tuple[Scope, bool], ScopeRules] = {}
    for written in scopes:
        # To report is to let pass, which is no narrowing.
        own = replace(written, mode=Mode.ENFORCE) if written.narrows else written
        key = own.scope, own.narrows
        seen = merged.get(key)
        merged[key] = own if seen is None else _merge(seen, own)
    ordered = sorted(merged.values(), key=lambda own: (_RANK[own.scope], own.narrows))
    return Policy(tuple(ordered), digest, clock=clock, rest=rest or _no_rest)


def _merge(first: ScopeRules, second: ScopeRules) -> ScopeRules:
    defaults = [own.default for own in (first, second) if own.default is not None]
    modes = [own.tls for own in (first, second) if own.tls is not None]
    return ScopeRules(
        scope=first.scope,
        rules=first.rules + second.rules,
        default=max(defaults, key=_STRICTNESS.__getitem__, default=None),
        tls=max(modes, default=None),
        # Enforcing is the stricter.
        mode=first.mode if first.mode is second.mode else Mode.ENFORCE,
        narrows=first.narrows,
    )


def _no_time() -> float:
    return 0.0


def _no_rest() -> None:
    """Go on."""


def _build_index(scopes: tuple[ScopeRules, ...], rest: Callable[[], None]) -> Index:
    index = Index()
    order = 0
    keys = LimitKeys()
    for place, scope in enumerate(scopes):
        for rule in filter(None, map(as_refusal, scope.rules)):
            compiled = CompiledRule(rule, scope, place)
            if rule.limits is not None:
                compiled.limits = (keys.key(scope.scope, rule), rule.limits)
            # One entry for all targets of a rule on one port: a list of any size costs no more than its names.
            entries: dict[int | None, tuple[Entry]] = {}
            rest()
            for number, target in enumerate(rule.targets, start=1):
                if number % _REST_EVERY == 0:
                    rest()
                if target.port not in entries:
                    entries[target.port] = (Entry(order, compiled, target.port),)
                    order += 1
                index.add(target, entries[target.port])
    return index


def _silence(scope: ScopeRules, nothing: Reason) -> Say:
    """What a scope says when none of its rules speaks."""
    if scope.default is None:
        return Say(scope.scope, None, nothing)
    return Say(scope.scope, scope.default, _REASON_OF_DEFAULT.get(scope.default, nothing))


def _unreadable(request: Request) -> Reason | None:
    """Why the destination is none, if it is none. `parse_host` lets no such host through; this holds if one does."""
    if not 0 < request.port <= MAX_PORT:
        return Reason.PORT_INVALID
    if request.host.address is None and not is_canonical_name(request.host.text):
        return Reason.HOST_INVALID
    return None


def _as_opaque(request: Request) -> Request:
    return request if request.method is None else replace(request, method=None)


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

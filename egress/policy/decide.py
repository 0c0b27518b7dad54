"""The policy core: a compiled policy, asked in three steps, each of which can only narrow.

1. by name, before any DNS: no, yes, or maybe (the request decides);
2. by request, once the lane has read one; a request that never becomes known is judged as opaque;
3. by address, before anything is dialled (`address_step`).

A request that a rule rewrites takes step two once more, as what it has become (`follow`), and step three as that alone.

What scopes make of the rules that speak: `verdicts`. How a policy is made: `compilation`.
Time counts only where a rule says until when it holds; an expired rule is as one that is not there.
Every step is total: for any request there is a decision, and what cannot be read is denied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.policy import address_step, law
from egress.policy.conditions import TOKEN, Fit, Question, fit_certain, fit_known, fit_opaque
from egress.policy.decision import Decision, NameDecision
from egress.policy.names import MAX_PORT, is_canonical_name
from egress.policy.overrides import asks_for_another
from egress.policy.reasons import Reason
from egress.policy.rewrites import Rewritten, rewritten, united
from egress.policy.survey import Silence, take_survey
from egress.policy.values import Refusal
from egress.policy.verdicts import Verdicts
from egress.policy.vocabulary import OVER_TLS, WITHOUT_REQUEST, Certainty, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.policy.compiled import CompiledRule, Entry
    from egress.policy.decision import AddressDecision
    from egress.policy.index import Index
    from egress.policy.request import Request
    from egress.policy.values import Address, Host, ScopeRules
    from egress.policy.vocabulary import Protocol

_NAMED_AT_MOST: Final = 4_096
_PASSED_AT_MOST: Final = 4_096
_UNITED_AT_MOST: Final = 256
# Tokens that need no look at their characters.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_OF_ALL: Final = frozenset({Reason.RULE_ALLOW, Reason.DEFAULT_ALLOW})

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
        "_clock",
        "_index",
        "_named",
        "_passed",
        "_silences",
        "_united",
        "_verdicts",
        "digest",
        "expiries",
        "resolvers",
        "scopes",
    )

    def __init__(
        self, scopes: tuple[ScopeRules, ...], index: Index, digest: str, *, clock: Callable[[], float]
    ) -> None:
        self.digest = digest
        self.scopes = scopes
        # The highest scope that states any has the say; empty: those of the proxy.
        self.resolvers = next((own.resolvers for own in scopes if own.resolvers), ())
        self._index = index
        self._verdicts = Verdicts(scopes)
        self._silences = tuple(map(Silence, scopes))
        untils = {rule.until.timestamp() for scope in scopes for rule in scope.rules if rule.until is not None}
        # When rules expire, in seconds since 1970, soonest first.
        self.expiries = tuple(sorted(untils))
        self._clock = clock if untils else _no_time
        # What the rules of a name told of it, by their identity, with protocol and port.
        self._named: dict[tuple[int, Protocol, int], tuple[Sequence[Entry], NameDecision]] = {}
        # An address that passed, by its identity, and how: kept connections bring the same ones again and again.
        self._passed: dict[int, tuple[Address, AddressDecision]] = {}
        # What two decisions on one rewritten request made together, by their identities.
        self._united: dict[tuple[int, int], tuple[Decision, Decision, Decision]] = {}

    def decide_name(self, request: Request) -> NameDecision:
        """Step one: what protocol, host and port alone tell. Nothing has been resolved yet."""
        refusal = _unreadable(request)
        if refusal is not None:
            return NameDecision(Certainty.NO, law.refuse(request, Verdict.DENY, refusal, self._verdicts.silent))
        entries = self._index.candidates(request.host)
        key = (id(entries), request.protocol, request.port)
        known = self._named.get(key)
        if known is not None and known[0] is entries:
            return known[1]
        told = self._by_name(request, entries)
        if request.host.address is None and not self.expiries and _is_of_all(told):
            if len(self._named) >= _NAMED_AT_MOST:
                self._named.clear()
            self._named[key] = (entries, told)
        return told

    def _by_name(self, request: Request, entries: Sequence[Entry]) -> NameDecision:
        verdicts = self._verdicts
        if not entries and not verdicts.passes_unnamed:
            return NameDecision(Certainty.NO, verdicts.conclude(request, verdicts.silence_for(request), []))
        question = Question(request, self._clock())
        survey = take_survey(entries, question, self._silences)
        unseen = request.protocol in WITHOUT_REQUEST or (request.protocol in OVER_TLS and survey.tunnels)
        certainty = survey.certainty()
        if certainty is Certainty.MAYBE and not unseen:
            return _MAYBE_HTTP2 if survey.http2 else _MAYBE
        opaque = verdicts.judge(_as_opaque(request), entries, question, fit_opaque)
        if not unseen and certainty is Certainty.NO and opaque.verdict is Verdict.DENY:
            opaque = _asked(verdicts.judge(_as_opaque(request), entries, question, fit_certain), opaque)
        if unseen:
            return NameDecision(Certainty.YES if opaque.allowed else Certainty.NO, opaque, TlsMode.TUNNEL)
        if certainty is Certainty.YES and not opaque.allowed:
            return NameDecision(certainty, verdicts.agreed(request, survey), TlsMode.INSPECT, survey.http2)
        if opaque.tls is not TlsMode.INSPECT:
            opaque = replace(opaque, tls=TlsMode.INSPECT)
        return NameDecision(certainty, opaque, TlsMode.INSPECT, survey.http2)

    def decide_request(self, request: Request) -> Decision:
        """Step two: the request itself. `method` None: it never becomes known, as in a tunnel or raw TCP."""
        refusal = _unreadable(request)
        if refusal is not None:
            return law.refuse(request, Verdict.DENY, refusal, self._verdicts.silent)
        entries = self._index.candidates(request.host)
        question = Question(request, self._clock())
        if request.method is None:
            return self._verdicts.judge(request, entries, question, fit_opaque)
        if request.method not in _METHODS and TOKEN.fullmatch(request.method) is None:
            return law.refuse(request, Verdict.DENY, Reason.METHOD_INVALID, self._verdicts.silent)
        decision = self._verdicts.judge(request, entries, question, fit_known)
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

    def named_by(self, host: Host) -> Sequence[Entry]:
        """The rules whose targets name the host, each on its ports: highest scope first, in file order."""
        return self._index.candidates(host)

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


def _is_of_all(told: NameDecision) -> bool:
    """Whether the decision is one for every name that the same rules name. A refusal tells its own."""
    return told.certainty is Certainty.MAYBE or told.decision.reason in _OF_ALL


def _asked(certain: Decision, refused: Decision) -> Decision:
    """Where a person is asked whatever the request is, that is told, and not a deny that is for some requests only."""
    return certain if certain.verdict is Verdict.ASK else refused


def _no_time() -> float:
    return 0.0


def _unreadable(request: Request) -> Reason | None:
    """Why the destination is none, if it is none. `parse_host` lets no such host through; this holds if one does."""
    if not 0 < request.port <= MAX_PORT:
        return Reason.PORT_INVALID
    if request.host.address is None and not is_canonical_name(request.host.text):
        return Reason.HOST_INVALID
    return None


def _as_opaque(request: Request) -> Request:
    return request if request.method is None else replace(request, method=None)

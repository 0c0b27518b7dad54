"""Laws of the lint: what it says never speaks can be deleted, and every rule has one fate."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import policy_builders as make
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.policy import Certainty, Decision, Policy, Reason, Request, Rule, Scope, ScopeRules, Verdict, compile_policy
from egress.review.lint.above import find_refused_above
from egress.review.lint.findings import Code
from egress.review.lint.unspoken import find_unspoken

from .build import NOW

if TYPE_CHECKING:
    from collections.abc import Sequence

ADDRESSES = [ip_address(text) for text in ("10.1.2.3", "93.184.216.34", "64:ff9b::a01:203", "2606:4700::1")]
NEEDLESS = {Code.REFUSAL_NEVER_HOLDS, Code.ALLOW_NEVER_HOLDS, Code.DUPLICATE_RULE, Code.REDUNDANT_RULE}

# Rules that are often related: each is another one with a term taken away or added.
_TERMS: list[dict[str, object]] = [
    {},
    {"methods": None, "paths": None},
    {"paths": None},
    {"methods": None},
    {"ports": None},
    {"protocols": None},
    {"inject": (), "remove": (), "tls": None, "http2": False},
    {"methods": frozenset({"GET"})},
    {"paths": ("/a/**",)},
    {"paths": ("/a",), "methods": frozenset({"POST", "DELETE"})},
]


def _related(first: Rule, changes: Sequence[tuple[Verdict, int, bool]]) -> list[Rule]:
    """The rule, then changed copies of it, each with a line of its own."""
    rules = [replace(first, line=1)]
    for line, (verdict, terms, plain) in enumerate(changes, start=2):
        targets = first.targets[:1] if plain else first.targets
        rules.append(replace(first, verdict=verdict, line=line, targets=targets, **_TERMS[terms]))  # type: ignore[arg-type]
    return rules


related = st.builds(
    _related,
    make.rules(),
    st.lists(
        st.tuples(st.sampled_from(list(Verdict)), st.integers(0, len(_TERMS) - 1), st.booleans()),
        min_size=1,
        max_size=4,
    ),
)
defaults = st.sampled_from([None, None, Verdict.DENY, Verdict.ALLOW, Verdict.ASK])
families = st.builds(
    lambda rules, more, default, swap: ScopeRules(
        Scope.SANDBOX, tuple([*more, *rules] if swap else [*rules, *more]), default
    ),
    related,
    st.lists(make.rules(), max_size=2),
    defaults,
    st.booleans(),
)
teams = st.builds(lambda rules, default: ScopeRules(Scope.TEAM, tuple(rules), default), related, defaults)
policies: st.SearchStrategy[list[ScopeRules]] = st.one_of(
    families.map(lambda own: [own]), st.tuples(teams, families).map(list), make.scope_lists
)


def numbered(scopes: Sequence[ScopeRules]) -> list[ScopeRules]:
    """The scopes with a line for each rule that no other rule has."""
    line = 0
    found = []
    for own in scopes:
        rules = []
        for rule in own.rules:
            line += 1
            rules.append(replace(rule, line=line))
        found.append(replace(own, rules=tuple(rules)))
    return found


def without(scopes: Sequence[ScopeRules], line: int) -> Policy:
    """The policy without one rule."""
    left = [replace(own, rules=tuple(rule for rule in own.rules if rule.line != line)) for own in scopes]
    return compile_policy(left, digest="without", clock=NOW.timestamp)


def _told(decision: Decision) -> tuple[object, ...]:
    # Where nothing spoke and a scope reports, what is named is the rule that came closest.
    named = decision.allowed and decision.reason is not Reason.WOULD_DENY
    return (decision.verdict, decision.rule if named else None, decision.inject, decision.tls)


@given(policies, st.lists(make.requests, min_size=30, max_size=60))
@settings(max_examples=1000)
def test_a_rule_that_never_speaks_can_be_deleted(scopes: list[ScopeRules], asked: list[Request]) -> None:
    """Without it every request is decided as with it: allowed under the same rule, to the same addresses, or not."""
    scopes = numbered(scopes)
    before = compile_policy(scopes, digest="with", clock=NOW.timestamp)
    for finding in find_unspoken(before.scopes):
        if finding.code in NEEDLESS and finding.line is not None:
            after = without(scopes, finding.line)
            asks = finding.message.startswith("this ask never holds")
            for request in asked:
                one, other = before.decide_request(request), after.decide_request(request)
                assert one.allowed == other.allowed, (finding, request)
                if not asks:
                    assert one.verdict is other.verdict, (finding, request)
                if one.allowed:
                    assert _told(one) == _told(other), (finding, request)
                assert (
                    before.decide_address(request, one, ADDRESSES).addresses
                    == after.decide_address(request, other, ADDRESSES).addresses
                ), (finding, request)


@given(policies, st.lists(make.requests, min_size=30, max_size=60))
@settings(max_examples=1000)
def test_a_rule_that_repeats_an_earlier_one_changes_no_connection(
    scopes: list[ScopeRules], asked: list[Request]
) -> None:
    """Duplicates and redundant rules change nothing of how TLS is opened either."""
    scopes = numbered(scopes)
    before = compile_policy(scopes, digest="with", clock=NOW.timestamp)
    for finding in find_unspoken(before.scopes):
        if finding.code in {Code.DUPLICATE_RULE, Code.REDUNDANT_RULE} and finding.line is not None:
            after = without(scopes, finding.line)
            for request in asked:
                one, other = before.decide_name(request), after.decide_name(request)
                assert one.certainty is other.certainty, (finding, request)
                if one.certainty is not Certainty.NO:
                    assert (one.tls, one.http2) == (other.tls, other.http2), (finding, request)


@given(policies, st.lists(make.requests, min_size=30, max_size=60))
@settings(max_examples=1000)
def test_an_allow_that_a_higher_scope_refuses_lets_nothing_pass(scopes: list[ScopeRules], asked: list[Request]) -> None:
    """Without it the same requests are allowed."""
    scopes = numbered(scopes)
    before = compile_policy(scopes, digest="with", clock=NOW.timestamp)
    for finding in find_refused_above(before.scopes):
        assert finding.line is not None
        after = without(scopes, finding.line)
        for request in asked:
            assert before.decide_request(request).allowed == after.decide_request(request).allowed, finding


@given(policies, st.lists(make.requests, min_size=30, max_size=60))
@settings(max_examples=1000)
def test_a_refusal_with_nothing_to_refuse_can_be_deleted(scopes: list[ScopeRules], asked: list[Request]) -> None:
    """Without it the same requests are allowed."""
    scopes = numbered(scopes)
    before = compile_policy(scopes, digest="with", clock=NOW.timestamp)
    for finding in find_unspoken(before.scopes):
        if finding.code is Code.NOTHING_TO_REFUSE and finding.line is not None:
            after = without(scopes, finding.line)
            for request in asked:
                assert before.decide_request(request).allowed == after.decide_request(request).allowed, finding


def test_the_laws_are_not_empty() -> None:
    """Policies of the strategy give each of the findings that the laws are about."""
    from hypothesis import find

    wanted = {*NEEDLESS, Code.NOTHING_TO_REFUSE, Code.REFUSED_ABOVE}
    for code in wanted:
        find(
            policies,
            lambda scopes, code=code: any(  # type: ignore[misc]
                finding.code is code for finding in (*find_unspoken(scopes), *find_refused_above(scopes))
            ),
            settings=settings(max_examples=5_000, deadline=None),
        )

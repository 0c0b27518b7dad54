"""Which names a sandbox may ask for: every name that could be reached, no other, and what a rule says of questions."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest
from hypothesis import assume, given
from policy_builders import FUTURE, PAST, policy, requests, rule, scope, scope_lists

from egress.policy import (
    Address,
    Certainty,
    Host,
    Protocol,
    Reason,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Verdict,
    compile_policy,
    decide_question,
    question_addresses,
)

A = "a.host.example"
NAME = Host(A)

# the rules -> whether addresses may be asked for, and whether anything else may
CASES: list[tuple[tuple[Rule, ...], bool, bool]] = [
    ((), False, False),
    ((rule("allow", "b.host.example"),), False, False),
    ((rule("allow", A),), True, False),
    ((rule("allow", "*.host.example"),), True, False),
    ((rule("allow", "**"),), True, False),
    # whatever the request, protocol or port
    ((rule("allow", A, methods="PUT"),), True, False),
    ((rule("allow", A, paths=("/x",)),), True, False),
    ((rule("allow", A, protocol="wss"),), True, False),
    ((rule("allow", A, protocol="grpc"),), True, False),
    ((rule("allow", A, protocol="http"),), True, False),
    ((rule("allow", A, ports=((8443, 8443),)),), True, False),
    ((rule("allow", A, ports=((5432, 5432),), protocol="tcp"),), True, False),
    ((rule("allow", f"{A}:9000"),), True, False),
    ((rule("allow", A, ports=((1, 65535),)), rule("deny", A, ports=((1, 9000),))), True, False),
    ((rule("deny", A, ports=((1, 9000),)), rule("allow", A, ports=((1, 65535),))), True, False),
    ((rule("deny", A, ports=((2, 65535),)), rule("allow", A, ports=((1, 65535),))), True, False),
    # what is refused for every request is not asked for
    ((rule("deny", A), rule("allow", A)), False, False),
    ((rule("deny", "**"), rule("allow", A)), False, False),
    ((rule("ask", A), rule("allow", A)), False, False),
    ((rule("deny", A, ports=((1, 65535),)), rule("allow", A)), False, False),
    ((rule("deny", A, methods="PUT"), rule("allow", A)), True, False),
    ((rule("allow", A, until=PAST),), False, False),
    ((rule("allow", A, until=FUTURE),), True, False),
    # what is said of questions themselves
    ((rule("allow", A, protocol="dns"),), True, True),
    ((rule("allow", A, protocol="https dns"),), True, True),
    ((rule("allow", A), rule("allow", A, protocol="dns")), True, True),
    ((rule("deny", A, protocol="dns"), rule("allow", A)), False, False),
    ((rule("ask", "**", protocol="dns"), rule("allow", A)), False, False),
    # a denial of everything else is none of what came before it
    ((rule("allow", A), rule("deny", "**")), True, False),
    ((rule("allow", A, protocol="https dns"), rule("deny", "**")), True, True),
]


@pytest.mark.parametrize(("listed", "addresses", "anything"), CASES)
def test_question_truth_table(listed: tuple[Rule, ...], addresses: bool, anything: bool) -> None:  # noqa: FBT001
    """A name is asked for where it could be connected to; other records only where a rule says so."""
    found = decide_question(policy(*listed), "sandbox", NAME)
    assert (found.decision.allowed, found.stated) == (addresses, anything)
    assert found.further.allowed == anything


def test_the_rule_that_could_allow_is_told() -> None:
    """Where the request will decide, the row names the rule that it will be held against."""
    found = decide_question(policy(rule("allow", A, methods="PUT", name="push")), "sandbox", NAME)
    assert (found.could, found.decision.reason) == (True, Reason.RULE_ALLOW)
    assert found.decision.rule is not None
    assert found.decision.rule.name == "push"


@pytest.mark.parametrize("above", [rule("deny", A), rule("deny", "**", protocol="dns"), rule("ask", A)])
def test_a_higher_scope_denies(above: Rule) -> None:
    """Scopes only narrow, of questions as of everything."""
    judged = policy(scope(above, rank=Scope.ORG), scope(rule("allow", A)))
    assert not decide_question(judged, "sandbox", NAME).decision.allowed


def test_a_default_that_allows_is_of_questions_too() -> None:
    """As it is of everything that no rule speaks of."""
    found = decide_question(policy(default="allow"), "sandbox", NAME)
    assert (found.decision.reason, found.stated) == (Reason.DEFAULT_ALLOW, True)


def test_report_mode_passes_and_says_so() -> None:
    """What would be refused is told as that, and what is allowed anyhow is not."""
    reporting = policy(scope(rule("allow", A), mode="report"))
    assert decide_question(reporting, "sandbox", NAME).decision.reason is Reason.RULE_ALLOW
    found = decide_question(reporting, "sandbox", Host("other.example"))
    assert (found.decision.allowed, found.decision.reason) == (True, Reason.WOULD_DENY)


@pytest.mark.parametrize("text", ["1.2.3.4", "::1"])
def test_an_address_is_no_name(text: str) -> None:
    """Nobody asks for one, whatever ranges are allowed."""
    judged = policy(rule("allow", "1.2.3.0/24"), rule("allow", "::1"))
    assert not decide_question(judged, "sandbox", Host(text)).decision.allowed


@given(scope_lists, requests)
def test_what_may_be_requested_may_be_asked_for(scopes: list[ScopeRules], asked: Request) -> None:
    """A request that is allowed is for a name that resolves, unless a rule says otherwise of questions."""
    judged = compile_policy(scopes, digest="test", clock=time.time)
    assume(asked.host.address is None and asked.protocol is not Protocol.DNS)
    assume(not any(Protocol.DNS in (own.protocols or ()) for each in scopes for own in each.rules))
    if judged.decide_request(asked).allowed:
        assert decide_question(judged, asked.sandbox, asked.host).decision.allowed


@given(scope_lists, requests)
def test_what_may_be_asked_for_could_be_reached(scopes: list[ScopeRules], asked: Request) -> None:
    """INVARIANT no-grant-no-connect: the connection that the question was judged by is one that could be had."""
    judged = compile_policy(scopes, digest="test", clock=time.time)
    found = decide_question(judged, asked.sandbox, asked.host)
    if found.decision.allowed:
        assert judged.decide_name(found.request).certainty is not Certainty.NO
    assert found.decision.verdict is Verdict.ALLOW or not found.stated


PUBLIC, PRIVATE, METADATA = map(ip_address, ("93.184.216.34", "10.1.2.3", "169.254.169.254"))
WITHIN = ("10.0.0.0/8",)
# the rules -> which of a public, a private and the metadata address are told
TOLD: list[tuple[tuple[Rule | ScopeRules, ...], tuple[Address, ...]]] = [
    ((rule("allow", A),), (PUBLIC,)),
    ((rule("allow", A, methods="PUT"),), (PUBLIC,)),
    ((rule("allow", A, addresses=WITHIN),), (PUBLIC, PRIVATE)),
    ((rule("allow", A, methods="PUT", addresses=WITHIN),), (PUBLIC, PRIVATE)),
    ((rule("allow", A, methods="GET"), rule("allow", A, methods="PUT", addresses=WITHIN)), (PUBLIC, PRIVATE)),
    ((rule("allow", A, methods="PUT", addresses=("169.254.0.0/16",)),), (PUBLIC,)),
    ((rule("allow", A, protocol="dns", addresses=WITHIN),), (PUBLIC, PRIVATE)),
    ((rule("deny", "93.184.0.0/16"), rule("allow", A, methods="PUT")), ()),
    # each scope that has a word in it agrees
    (
        (
            scope(rule("allow", A, methods="PUT"), rank=Scope.ORG),
            scope(rule("allow", A, methods="PUT", addresses=WITHIN)),
        ),
        (PUBLIC,),
    ),
    (
        (scope(rank=Scope.ORG, default="allow"), scope(rule("allow", A, methods="PUT", addresses=WITHIN))),
        (PUBLIC,),
    ),
]


@pytest.mark.parametrize(("parts", "told"), TOLD)
def test_addresses_truth_table(parts: tuple[Rule | ScopeRules, ...], told: tuple[Address, ...]) -> None:
    """INVARIANT private-by-default: only what a connection could reach is told."""
    judged = policy(*parts)
    found = decide_question(judged, "sandbox", NAME)
    assert found.decision.allowed
    answer = question_addresses(judged, found, [PUBLIC, PRIVATE, METADATA])
    assert answer.addresses == told
    assert answer.decision.allowed == bool(told)

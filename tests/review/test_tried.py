"""The rules that an explanation lists are those that the policy core tried, and the one that speaks is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from policy_builders import request, requests, rule, scope, scope_lists

from egress.policy import ScopeRules, compile_policy
from egress.review import Outcome, tried

if TYPE_CHECKING:
    from egress.policy import Request

NOON_2030 = 1_893_499_200.0


def now() -> float:
    """A moment between those at which rules of the builders expire."""
    return NOON_2030


@given(scope_lists, requests)
@settings(max_examples=300)
def test_the_rule_that_speaks_is_the_one_that_decides_for_its_scope(scopes: list[ScopeRules], asked: Request) -> None:
    """For any policy and request: one rule at most speaks in a scope, and the core's answer names the same."""
    policy = compile_policy(scopes, digest="test", clock=now)
    decision = policy.decide_request(asked)
    told = {each.scope: each for each in tried(policy, asked)}
    assert list(told) == [own.scope for own in policy.scopes]
    for own in policy.scopes:
        speaking = [each.rule for each in told[own.scope].rules if each.outcome is Outcome.SPEAKS]
        assert len(speaking) <= 1
        assert len(told[own.scope].rules) + told[own.scope].others == len(own.rules)
        said = next((say for say in decision.says if say.scope is own.scope), None)
        if said is not None and said.rule is not None:
            assert speaking == [said.rule]


def test_a_rule_that_names_the_host_twice_is_told_once_by_its_better_target() -> None:
    """Two targets, two ports: what counts is that one of them serves the request."""
    own = rule("allow", "a.example.com:8443", "a.example.com:443")
    policy = compile_policy([ScopeRules(scope(own).scope, (own,))], digest="test", clock=now)
    (told,) = tried(policy, request("https://a.example.com", "GET", "/"))
    assert [each.outcome for each in told.rules] == [Outcome.SPEAKS]
    (told,) = tried(policy, request("http://a.example.com", "GET", "/"))
    assert [each.why for each in told.rules] == ["the port is 80"]


def test_what_a_rule_names_is_told_in_part_where_it_is_long() -> None:
    """A list of a hundred paths does not bury the answer."""
    own = rule("allow", "a.example.com", paths=tuple(f"/p{number}" for number in range(100)))
    policy = compile_policy([ScopeRules(scope(own).scope, (own,))], digest="test", clock=now)
    (told,) = tried(policy, request("https://a.example.com", "GET", "/x"))
    assert told.rules[0].why == "the path is another one, the rule has paths: /p0, /p1, /p2, /p3, /p4, /p5 and 94 more"

"""Limits in a decision: those of every rule that allows, under keys that a reload does not change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from egress.policy import (
    Decision,
    Host,
    HostTarget,
    Mode,
    Protocol,
    Rate,
    Request,
    Rule,
    RuleLimits,
    Scope,
    ScopeRules,
    Target,
    Verdict,
    compile_policy,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST = "api.test"
SLOW, FAST = RuleLimits(requests=Rate(1, 60)), RuleLimits(requests=Rate(9, 1), burst=20)
RULE = Rule(
    Verdict.ALLOW,
    (Target(HostTarget(HOST, exact=True, below=False)),),
    "policy.yaml",
    3,
    methods=frozenset({"GET", "HEAD", "PUT"}),
    limits=SLOW,
)


def decided(*scopes: ScopeRules, method: str | None = "GET", port: int = 443) -> Decision:
    """The decision on one request."""
    policy = compile_policy(scopes, digest="x", clock=lambda: 0.0)
    return policy.decide_request(Request("sandbox", Protocol.HTTPS, Host(HOST), port, method, "/", None, ()))


def of(scope: Scope, rules: Sequence[Rule], **more: object) -> ScopeRules:
    """A scope's rules."""
    return ScopeRules(scope, tuple(rules), **more)  # type: ignore[arg-type]


def key_of(rule: Rule, before: Sequence[Rule] = (), scope: Scope = Scope.SANDBOX) -> str:
    """The key under which a rule's limits are counted."""
    ((key, _),) = decided(of(scope, (*before, rule))).limits
    return key


def test_the_limits_of_all_scopes_that_allow_hold() -> None:
    """Each once, under a key of its own; a scope that allows without limits adds none."""
    org, team = of(Scope.ORG, [RULE]), of(Scope.TEAM, [replace(RULE, limits=None)])
    sandbox = of(Scope.SANDBOX, [replace(RULE, limits=FAST)])
    decision = decided(org, team, sandbox)
    assert [limits for _, limits in decision.limits] == [SLOW, FAST]
    assert len({key for key, _ in decision.limits}) == 2


def test_a_rule_that_does_not_speak_limits_nothing() -> None:
    """The first that matches speaks, and its limits alone hold."""
    other = replace(RULE, methods=frozenset({"POST"}))
    unlimited = replace(RULE, limits=None)
    assert decided(of(Scope.SANDBOX, [other, replace(RULE, limits=FAST), RULE])).limits[0][1] == FAST
    assert decided(of(Scope.SANDBOX, [unlimited, RULE])).limits == ()


def test_a_tunnel_and_report_mode_keep_the_limits() -> None:
    """What never becomes known is limited, and so is what passes because a scope only reports."""
    opaque = replace(RULE, methods=None)
    assert decided(of(Scope.SANDBOX, [opaque]), method=None).limits
    team = of(Scope.TEAM, [], default=Verdict.DENY, mode=Mode.REPORT)
    assert decided(of(Scope.SANDBOX, [RULE]), team).limits


def test_a_denial_has_no_limits() -> None:
    """Nothing of it passes, so nothing of it counts."""
    assert decided(of(Scope.SANDBOX, [RULE]), method="DELETE").limits == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"line": 99},
        {"limits": FAST},
        {"annotate": (("ticket", "OPS-1"),)},
        {"methods": frozenset(["PUT", "HEAD", "GET"])},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_rule_is_the_same_rule_after_a_change_that_leaves_what_it_matches(changed: dict[str, object]) -> None:
    """Moved, labelled, with other limits: what was spent is still spent."""
    assert key_of(replace(RULE, **changed)) == key_of(RULE)  # type: ignore[arg-type]


def test_a_name_keeps_a_rule_the_same_whatever_it_says() -> None:
    """A host more in a rule with a name does not reset it."""
    named = replace(RULE, name="model API")
    assert key_of(replace(named, methods=None)) == key_of(named)


@pytest.mark.parametrize(
    "changed",
    [{"file": "other.yaml"}, {"name": "other"}, {"methods": None}, {"paths": ("/a",), "methods": frozenset({"GET"})}],
    ids=["file", "name", "methods", "more"],
)
def test_another_rule_has_another_key(changed: dict[str, object]) -> None:
    """What one spends is not taken from the other."""
    assert key_of(RULE) != _key_without_paths(replace(RULE, **changed))  # type: ignore[arg-type]
    assert key_of(RULE) != key_of(RULE, scope=Scope.ORG)


def _key_without_paths(rule: Rule) -> str:
    policy = compile_policy([of(Scope.SANDBOX, [rule])], digest="x", clock=lambda: 0.0)
    ((key, _),) = policy.decide_request(
        Request("sandbox", Protocol.HTTPS, Host(HOST), 443, "GET", "/a", None, ())
    ).limits
    return key


def test_rules_that_are_alike_are_told_apart() -> None:
    """Two with the same name share nothing."""
    first = replace(RULE, name="twin", methods=frozenset({"POST"}))
    assert key_of(replace(RULE, name="twin"), before=[first]) != key_of(replace(RULE, name="twin"))

"""Which signature a decision carries: one, the highest scope's, and none where a scope only reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from egress.policy import (
    Certainty,
    HmacScheme,
    Host,
    HostTarget,
    Mode,
    Policy,
    Protocol,
    Request,
    Rewrite,
    Rule,
    Scope,
    ScopeRules,
    SigV4,
    Target,
    TlsMode,
    Variable,
    Verdict,
    compile_policy,
)

ONE = SigV4("one")
OTHER = HmacScheme("other", (Variable("path"),), "X-Signature")
REQUEST = Request("agent", Protocol.HTTPS, Host("api.example.com"), 443, "GET", "/")


def rule(sign: SigV4 | HmacScheme | None, name: str = "api.example.com") -> Rule:
    """An allow that signs."""
    return Rule(Verdict.ALLOW, (Target(HostTarget(name, exact=True, below=False)),), "policy.yaml", 1, sign=sign)


def compiled(scopes: tuple[ScopeRules, ...]) -> Policy:
    """A policy at a time when nothing expires."""
    return compile_policy(scopes, digest="d", clock=lambda: 0.0)


MERGED = [
    # of the organisation's rule, and the sandbox's -> of the decision
    (None, None, None),
    (ONE, None, ONE),
    (None, OTHER, OTHER),
    (ONE, OTHER, ONE),
    (OTHER, ONE, OTHER),
]


@pytest.mark.parametrize(("org", "sandbox", "expected"), MERGED)
def test_the_highest_scope_that_signs_does(
    org: SigV4 | None, sandbox: HmacScheme | None, expected: SigV4 | HmacScheme | None
) -> None:
    """Two signatures would each have to cover the other."""
    scopes = (ScopeRules(Scope.ORG, (rule(org),)), ScopeRules(Scope.SANDBOX, (rule(sandbox),)))
    decision = compiled(scopes).decide_request(REQUEST)
    assert (decision.verdict, decision.sign) == (Verdict.ALLOW, expected)


def test_what_a_scope_in_report_mode_lets_pass_is_not_signed() -> None:
    """It would be refused: no secret goes with it."""
    deny = replace(rule(None), verdict=Verdict.DENY)
    scopes = (ScopeRules(Scope.ORG, (deny,), mode=Mode.REPORT), ScopeRules(Scope.SANDBOX, (rule(ONE),)))
    decision = compiled(scopes).decide_request(REQUEST)
    assert (decision.verdict, decision.sign) == (Verdict.ALLOW, None)


@pytest.mark.parametrize("mode", [TlsMode.AUTO, TlsMode.INSPECT])
def test_a_rule_that_signs_needs_the_inside(mode: TlsMode) -> None:
    """A tunnel cannot be signed: TLS is opened, and what stays unopened is refused."""
    policy = compiled((ScopeRules(Scope.SANDBOX, (replace(rule(ONE), tls=mode),)),))
    named = policy.decide_name(replace(REQUEST, method=None, path=None))
    assert (named.certainty, named.tls) == (Certainty.YES, TlsMode.INSPECT)
    assert not policy.decide_request(replace(REQUEST, method=None, path=None)).allowed


REWRITTEN = [(ONE, None, ONE), (None, OTHER, OTHER), (ONE, OTHER, OTHER)]


@pytest.mark.parametrize(("asked", "reached", "expected"), REWRITTEN)
def test_a_rewritten_request_is_signed_as_either_rule_says(
    asked: SigV4 | None, reached: HmacScheme | None, expected: SigV4 | HmacScheme | None
) -> None:
    """Of one scope's two rules, the one for where it goes."""
    moved = replace(rule(asked), rewrite=Rewrite(host=Host("gateway.example.com")))
    policy = compiled((ScopeRules(Scope.SANDBOX, (moved, rule(reached, "gateway.example.com"))),))
    followed = policy.follow(REQUEST, policy.decide_request(REQUEST))
    assert (followed.decision.allowed, followed.decision.sign) == (True, expected)


def test_what_would_be_denied_is_not_signed_where_it_is_rewritten_to() -> None:
    """It passes because a scope reports; the rule for where it goes signs what others ask of it."""
    deny = replace(rule(None), verdict=Verdict.DENY)
    moved = replace(rule(None), rewrite=Rewrite(host=Host("gateway.example.com")))
    own = ScopeRules(Scope.SANDBOX, (moved, rule(OTHER, "gateway.example.com")))
    policy = compiled((ScopeRules(Scope.ORG, (deny,), mode=Mode.REPORT), own))
    followed = policy.follow(REQUEST, policy.decide_request(REQUEST))
    assert (followed.decision.allowed, followed.decision.sign) == (True, None)

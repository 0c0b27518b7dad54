"""The report mode: what a scope alone would refuse passes and says so; what anything else refuses does not."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from policy_builders import INJECT, policy, request, requests, rule, scope, scope_lists

from egress.policy import Certainty, Mode, Reason, Scope, ScopeRules, TlsMode, Verdict, compile_policy

PUBLIC, PRIVATE = ip_address("93.184.216.34"), ip_address("10.1.2.3")

# url, method, path, reason, the name of the rule that is told
CASES = [
    ("https://unknown.example", "GET", "/", "would-deny", None),
    ("https://never.example", "GET", "/", "would-deny", "never"),
    ("https://asks.example", "GET", "/", "would-deny", "asks"),
    ("https://reads.example", "POST", "/", "would-deny", "reads"),
    ("https://reads.example", "GET", "/a/../b", "rule-allow", "reads"),
    ("https://reads.example", "GET", "/", "rule-allow", "reads"),
    ("https://unknown.example", "G ET", "/", "method-invalid", None),
]
RULES = (
    rule("deny", "never.example", name="never"),
    rule("ask", "asks.example", name="asks"),
    rule("allow", "reads.example", methods="GET", name="reads", inject=INJECT),
)


@pytest.mark.parametrize(("url", "method", "path", "reason", "name"), CASES)
def test_what_the_scope_refuses_passes_and_is_told(
    url: str, method: str, path: str, reason: str, name: str | None
) -> None:
    """The rule that would have refused is named; what is no request at all stays refused."""
    decision = policy(scope(*RULES, mode="report")).decide_request(request(url, method, path))
    assert decision.reason == reason
    assert (None if decision.rule is None else decision.rule.name) == name
    assert decision.allowed is (reason != "method-invalid")


def test_nothing_is_injected_into_what_passes_so() -> None:
    """A secret goes only where a rule allows."""
    team = scope(rule("allow", "api.example.com", inject=INJECT), rank=Scope.TEAM)
    own = scope(rule("deny", "api.example.com"), mode="report")
    decision = policy(team, own).decide_request(request("https://api.example.com", "GET", "/"))
    assert (decision.reason, decision.inject) == (Reason.WOULD_DENY, ())


def test_only_public_addresses_are_reached_so() -> None:
    """Address classes are no rule's verdict."""
    judged = policy(scope(*RULES, mode="report"))
    asked = request("https://unknown.example", "GET", "/")
    decision = judged.decide_request(asked)
    assert judged.decide_address(asked, decision, [PRIVATE, PUBLIC]).addresses == (PUBLIC,)
    assert judged.decide_address(asked, decision, [PRIVATE]).decision.reason == Reason.ADDRESS_NOT_PUBLIC


def test_a_scope_that_enforces_still_refuses() -> None:
    """Report softens its own scope only."""
    org = scope(rule("deny", "never.example"), rank=Scope.ORG)
    own = scope(default="deny", mode="report")
    judged = policy(org, own)
    assert judged.decide_request(request("https://never.example", "GET", "/")).reason == Reason.RULE_DENY
    assert judged.decide_name(request("https://never.example")).certainty is Certainty.NO
    assert judged.decide_request(request("https://other.example", "GET", "/")).reason == Reason.WOULD_DENY


def test_two_files_of_a_scope_report_only_if_both_do() -> None:
    """Enforcing is the stricter."""
    first, second = scope(mode="report"), scope(rule("deny", "a.example"))
    assert not policy(first, second).decide_request(request("https://a.example", "GET", "/")).allowed


def test_tls_of_what_passes_so_is_the_scopes() -> None:
    """A report that tunnels sees names only; without a word, TLS is opened."""
    asked = request("https://unknown.example")
    for stated, tls in ((None, TlsMode.INSPECT), (TlsMode.TUNNEL, TlsMode.TUNNEL)):
        judged = policy(scope(mode="report", tls=stated))
        name = judged.decide_name(asked)
        assert (name.certainty is not Certainty.NO, name.tls) == (True, tls)
        assert judged.decide_request(asked).verdict is Verdict.ALLOW


@settings(max_examples=300)
@given(scope_lists, requests)
def test_report_passes_only_what_enforcing_scopes_let_pass(scopes: list[ScopeRules], asked: object) -> None:
    """INVARIANT scopes-only-narrow: with every scope in report mode taken away, nothing that passes was refused."""
    decision = compile_policy(scopes, digest="test", clock=time.time).decide_request(asked)  # type: ignore[arg-type]
    if decision.reason is not Reason.WOULD_DENY:
        return
    enforcing = [own for own in scopes if own.mode is Mode.ENFORCE]
    said = compile_policy(enforcing, digest="test", clock=time.time).decide_request(asked).says if enforcing else ()  # type: ignore[arg-type]
    assert all(say.verdict in {None, Verdict.ALLOW} for say in said)
    assert decision.inject == decision.remove == ()

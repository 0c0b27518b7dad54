"""What the core remembers between questions changes no answer, and has a limit."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_builders import addresses, policy, request, requests, rule, scope, scope_lists

from egress.policy import (
    Address,
    Certainty,
    Policy,
    Reason,
    Request,
    Scope,
    ScopeRules,
    Verdict,
    compile_policy,
    overrides,
    parse_authority,
)
from egress.policy import decide as decide_module
from egress.policy import index as index_module
from egress.policy import verdicts as verdicts_module

if TYPE_CHECKING:
    import pytest


def answers(policy: Policy, asked: Request, candidates: list[Address]) -> tuple[object, ...]:
    """Everything that the core says of a request and of each address."""
    decision = policy.decide_request(asked)
    each = [policy.decide_address(asked, decision, [address]) for address in candidates]
    return policy.decide_name(asked), decision, each, policy.decide_address(asked, decision, candidates)


@settings(max_examples=300)
@given(scope_lists, st.lists(requests, min_size=2, max_size=6), st.lists(addresses, min_size=1, max_size=3))
def test_a_policy_that_was_asked_before_answers_as_a_new_one(
    scopes: list[ScopeRules], asked: list[Request], candidates: list[Address]
) -> None:
    """The very same addresses, under decisions of other requests, and all of it twice."""
    used = compile_policy(scopes, digest="test", clock=time.time)
    for one in [*asked, *asked]:
        assert answers(used, one, candidates) == answers(
            compile_policy(scopes, digest="test", clock=time.time), one, candidates
        )


def test_an_address_that_passed_under_one_rule_does_not_under_another() -> None:
    """`addresses` of one rule opens nothing for the next, not even for the same connection."""
    private = ip_address("10.1.2.3")
    made = policy(rule("allow", "a.example", addresses=("10.0.0.0/8",)), rule("allow", "b.example"))
    for url, passes in [("https://a.example", True), ("https://b.example", False), ("https://a.example", True)]:
        asked = request(url, "GET", "/")
        assert bool(made.decide_address(asked, made.decide_request(asked), [private]).addresses) is passes


def test_an_address_that_a_deny_names_is_judged_for_each_request() -> None:
    """The deny may hold for one method and not for another, under one and the same allow."""
    address = ip_address("93.184.216.34")
    made = policy(rule("deny", "93.184.216.0/24", methods="POST"), rule("allow", "a.example"))
    for method, passes in [("GET", True), ("POST", False), ("GET", True)]:
        asked = request("https://a.example", method, "/")
        decision = made.decide_request(asked)
        assert decision.verdict is Verdict.ALLOW
        assert bool(made.decide_address(asked, decision, [address]).addresses) is passes


def test_an_address_that_passed_for_a_name_is_not_an_address_that_was_named() -> None:
    """A destination that is an address is dialled at that address, whatever passed before."""
    public, other = ip_address("93.184.216.34"), ip_address("93.184.216.35")
    made = policy(default="allow")
    named, literal = request("https://a.example", "GET", "/"), request("https://93.184.216.35", "GET", "/")
    assert made.decide_address(named, made.decide_request(named), [public]).addresses == (public,)
    assert made.decide_address(literal, made.decide_request(literal), [public]).addresses == ()
    assert made.decide_address(literal, made.decide_request(literal), [other]).addresses == (other,)


def test_what_a_policy_remembers_is_bounded() -> None:
    """A sandbox that walks through names and addresses adds no memory beyond the limits."""
    made = policy(rule("allow", "*.example.com"))
    for number in range(max(index_module._FOUND_AT_MOST, decide_module._PASSED_AT_MOST) + 10):
        asked = request(f"https://h{number}.example.com", "GET", "/")
        address = ip_address(0x5DB8_0000 + number)
        assert made.decide_address(asked, made.decide_request(asked), [address]).addresses == (address,)
        assert len(made._index._found) <= index_module._FOUND_AT_MOST
        assert len(made._passed) <= decide_module._PASSED_AT_MOST


def test_what_a_policy_remembers_of_names_and_rules_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that walks through ports, or through names that many rules tell apart."""
    monkeypatch.setattr(decide_module, "_NAMED_AT_MOST", 5)
    monkeypatch.setattr(verdicts_module, "_AGREED_AT_MOST", 5)
    monkeypatch.setattr(index_module, "_FOUND_AT_MOST", 5)
    names = [f"h{number}.example.com" for number in range(20)]
    made = policy(
        scope(*(rule("allow", name, ports=((1, 9000),)) for name in names), rule("deny", "**"), rank=Scope.TEAM),
        scope(rule("allow", "**", ports=((1, 9000),)), rule("allow", "*.example.com")),
    )
    for name in names:
        for port in (443, 8443):
            asked = request(f"https://{name}:{port}", "GET", "/")
            assert made.decide_name(asked).certainty is Certainty.YES
            assert made.decide_request(asked).allowed
            assert len(made._named) <= 5
            assert len(made._verdicts._agreed_by) <= 5
            assert len(made._index._alike) <= 6


def test_what_is_remembered_of_one_name_is_not_told_of_another() -> None:
    """Names that the same rules name share an answer; a refusal tells its own name, and a port is its own."""
    made = policy(
        scope(rule("allow", "*.example.com"), rank=Scope.TEAM),
        scope(
            rule("deny", "*.no.example.com"),
            rule("allow", "**", paths=("/a",), ports=((443, 443),)),
            default="deny",
        ),
    )
    for _ in range(2):
        assert made.decide_name(request("https://a.example.com")) is made.decide_name(request("https://b.example.com"))
        for name in ("x.no.example.com", "y.no.example.com"):
            assert name in made.decide_name(request(f"https://{name}")).decision.detail
            assert name in made.decide_name(request(f"https://{name}:8443")).decision.detail
        assert made.decide_name(request("https://a.example.com")).certainty is Certainty.MAYBE
        assert made.decide_name(request("https://a.example.com:8443")).certainty is Certainty.NO
        assert made.decide_name(request("tcp://a.example.com:443")).certainty is Certainty.NO
        refused = made.decide_request(request("https://a.example.com", "GET", "/b"))
        assert refused.verdict is Verdict.DENY
        assert made.decide_request(request("https://a.example.com", "GET", "/a")).allowed


def test_a_name_is_not_remembered_where_rules_expire() -> None:
    """What was allowed once is asked anew."""
    moment = [0.0]
    own = rule("allow", "a.example", until=datetime.fromtimestamp(100, UTC))
    made = compile_policy([scope(own)], digest="test", clock=lambda: moment[0])
    assert made.decide_name(request("https://a.example")).certainty is Certainty.YES
    moment[0] = 100.0
    assert made.decide_name(request("https://a.example")).certainty is Certainty.NO


def test_a_name_that_overrides_is_found_whatever_was_seen_before() -> None:
    """Thousands of harmless names neither hide one that asks for another host, nor are all kept."""
    overrides._HARMLESS.clear()
    for number in range(overrides._REMEMBERED_AT_MOST + 10):
        assert not overrides.asks_for_another(((f"X-{number}", "v"), ("X" * 300, "v")))
        assert len(overrides._HARMLESS) <= overrides._REMEMBERED_AT_MOST
    assert all(len(name) <= overrides._REMEMBERED_LENGTH for name in overrides._HARMLESS)
    for name in ("X-Host", "x_host", " X-HOST", "X-Forwarded-Host"):
        for _ in range(2):
            assert overrides.asks_for_another((("X-1", "v"), (name, "v")))
    made = policy(rule("allow", "a.example", paths=("/a",)))
    asked = request("https://a.example", "GET", "/a", (("X-1", "v"), ("x-host", "b.example")))
    assert made.decide_request(asked).reason is Reason.OVERRIDE_HEADER


def test_an_authority_is_read_with_the_default_port_of_its_asker() -> None:
    """The same text stands for other destinations over http and over https; without a default it is none."""
    for _ in range(2):
        for default, port in [(443, 443), (80, 80)]:
            named = parse_authority("A.example", default)
            assert isinstance(named, tuple)
            assert (named[0].text, named[1]) == ("a.example", port)
        refused = parse_authority("A.example", None)
        assert not isinstance(refused, tuple)
        assert refused.reason is Reason.PORT_INVALID

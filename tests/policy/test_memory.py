"""What the core remembers between questions changes no answer, and has a limit."""

from __future__ import annotations

import time
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_builders import addresses, policy, request, requests, rule, scope_lists

from egress.policy import (
    Address,
    Policy,
    Reason,
    Request,
    ScopeRules,
    Verdict,
    compile_policy,
    overrides,
    parse_authority,
)
from egress.policy import decide as decide_module
from egress.policy import index as index_module


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

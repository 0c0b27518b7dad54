"""Rules that expire: an expired rule is as one that is not there, at every step, without a new policy."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from policy_builders import request, rule, scope

from egress.policy import Certainty, Policy, Rule, compile_policy

END = datetime(2030, 1, 1, tzinfo=UTC)
BEFORE, AT = END.timestamp() - 1, END.timestamp()


class Clock:
    """A time that stands still."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time, in seconds since 1970."""
        return self.now


def judged(*rules: Rule, now: float) -> tuple[Policy, Clock]:
    """A policy of these rules at a moment."""
    clock = Clock(now)
    return compile_policy((scope(*rules),), digest="test", clock=clock), clock


TEMPORARY = rule("allow", "api.example.com", until=END)
REQUEST = request("https://api.example.com", "GET", "/")


def test_an_allow_ends_at_its_moment() -> None:
    """The same policy object, asked a second later, denies, and says that a rule expired."""
    policy, clock = judged(TEMPORARY, now=BEFORE)
    assert policy.decide_request(REQUEST).allowed
    assert policy.decide_name(request("https://api.example.com")).certainty is Certainty.YES
    clock.now = AT
    assert policy.decide_request(REQUEST).reason == "rule-expired"
    name = policy.decide_name(request("https://api.example.com"))
    assert (name.certainty, name.decision.reason) == (Certainty.NO, "rule-expired")
    assert not policy.decide_request(request("https://api.example.com")).allowed
    assert policy.expiries == (AT,)


def test_what_else_fails_is_said_first() -> None:
    """An expired rule that would not have matched anyway is told by what it lacks."""
    policy, _ = judged(rule("allow", "api.example.com", methods="POST", until=END), now=AT)
    assert policy.decide_request(REQUEST).reason == "method-not-allowed"


@pytest.mark.parametrize(("now", "allowed"), [(BEFORE, False), (AT, True)])
def test_a_deny_holds_until_its_moment(now: float, *, allowed: bool) -> None:
    """Then the rule behind it speaks."""
    policy, _ = judged(rule("deny", "api.example.com", until=END), rule("allow", "api.example.com"), now=now)
    assert policy.decide_request(REQUEST).allowed is allowed


@pytest.mark.parametrize(("now", "dialled"), [(BEFORE, 0), (AT, 1)])
def test_a_deny_of_addresses_holds_until_its_moment(now: float, dialled: int) -> None:
    """At the address step too."""
    policy, _ = judged(rule("deny", "93.184.216.0/24", until=END), rule("allow", "api.example.com"), now=now)
    decision = policy.decide_request(REQUEST)
    assert len(policy.decide_address(REQUEST, decision, [ip_address("93.184.216.34")]).addresses) == dialled


def test_a_policy_without_moments_asks_no_clock() -> None:
    """The time costs only those who use it."""

    def never() -> float:
        raise AssertionError("the clock was read")

    policy = compile_policy((scope(rule("allow", "api.example.com")),), digest="test", clock=never)
    assert policy.decide_request(REQUEST).allowed
    assert policy.expiries == ()

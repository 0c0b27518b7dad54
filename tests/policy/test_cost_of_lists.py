"""Lists of 100,000 targets: what a decision looks at, and what it costs beside ten rules."""

from __future__ import annotations

import time
from functools import cache
from ipaddress import ip_address

import pytest

from egress.policy import (
    Host,
    Policy,
    Protocol,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Target,
    TargetError,
    Verdict,
    compile_policy,
    parse_target,
)
from egress.policy.address_step import judge
from egress.policy.index import Index, NetworkIndex

LIST = 100_000


def target(text: str, verdict: Verdict = Verdict.ALLOW) -> Target:
    """A target that parses."""
    parsed = parse_target(text, verdict=verdict)
    assert not isinstance(parsed, TargetError)
    return parsed


def rule(size: int, form: str, verdict: Verdict = Verdict.ALLOW) -> Rule:
    """One rule of so many targets; `{}` stands for a number, in dots for an address."""
    return Rule(
        verdict,
        tuple(target(form.format(_dotted(number) if "/" in form else number), verdict) for number in range(size)),
        "p",
        1,
    )


def _dotted(number: int) -> str:
    return f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@cache
def policy(size: int) -> Policy:
    """Four scopes, with lists of hosts and of CIDRs of this size."""
    hosts, networks = rule(size, "host{}.example.com"), rule(size, "11.{}/32", Verdict.DENY)
    scopes = [
        ScopeRules(Scope.ORG, (networks,)),
        ScopeRules(Scope.TEAM, (hosts,)),
        ScopeRules(Scope.SANDBOX, (hosts,), Verdict.DENY),
        ScopeRules(Scope.SESSION, (hosts,), Verdict.DENY),
    ]
    return compile_policy(scopes, digest="test", clock=time.time)


def request(text: str) -> Request:
    """A request for a host or an address."""
    address = ip_address(text) if text[0].isdigit() else None
    return Request("default", Protocol.HTTPS, Host(text, address), 443, "GET", "/")


ASKED = [
    request(text) for text in ("host3.example.com", "www.host3.example.com", "unknown.test", "11.0.0.3", "12.0.0.1")
]


def seconds(asked: Policy) -> float:
    """CPU time of all questions, fifty times."""
    start = time.process_time()
    for _ in range(50):
        for one in ASKED:
            asked.decide_name(one)
            asked.decide_request(one)
    return time.process_time() - start


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.host.text)
def test_as_many_rules_are_tried_with_a_list_of_100000_as_of_10(one: Request) -> None:
    """Counted, not timed: the list is one rule, found by one look-up."""
    tried = [len(policy(size)._index.candidates(one.host)) for size in (10, LIST)]
    assert tried[0] == tried[1] <= 3


def test_a_decision_with_lists_of_100000_takes_less_than_twice_as_long_as_with_10() -> None:
    """The best of interleaved rounds, in the best of five tries, since a busy machine slows one of the two."""
    small, large = policy(10), policy(LIST)

    def growth() -> float:
        rounds = [(seconds(small), seconds(large)) for _ in range(8)]
        return min(slow for _, slow in rounds) / min(fast for fast, _ in rounds)

    assert any(growth() < 2 for _ in range(5))


def test_targets_of_one_rule_share_their_entry() -> None:
    """A list costs its names, not an object more for each of them."""
    index = policy(LIST)._index
    entries = {
        id(entry) for number in range(0, LIST, 997) for entry in index.candidates(Host(f"host{number}.example.com"))
    }
    assert len(entries) == 3  # one for each scope that names it


def test_the_address_of_an_allowed_list_is_looked_up_and_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A private address that a list names is allowed, and one that it does not name is not, at the same few look-ups.

    A search through the list for each request would let the sandbox keep a processor busy.
    """
    looked: list[int] = []
    find = NetworkIndex.find
    monkeypatch.setattr(NetworkIndex, "find", lambda self, address: looked.append(1) or find(self, address))
    for size in (10, 20_000):
        own = compile_policy([ScopeRules(Scope.SANDBOX, (rule(size, "10.{}/32"),))], digest="test", clock=time.time)
        for text, allowed in (("10.0.0.9", True), ("10.200.0.1", False)):
            asked = request(text)
            looked.clear()
            decision = own.decide_request(asked)
            assert asked.host.address is not None
            judged = judge(own._index, asked, decision, [asked.host.address], 0.0)
            assert bool(judged.addresses) is allowed
            assert len(looked) < 12


def test_an_entry_named_twice_is_an_entry_of_both_rules() -> None:
    """What two rules name stands in both, in the order of the file, and adding to one changes no other name."""
    first, second = rule(3, "host{}.example.com"), rule(1, "host{}.example.com", Verdict.DENY)
    index: Index = compile_policy(
        [ScopeRules(Scope.SANDBOX, (first, second, second))], digest="test", clock=time.time
    )._index
    assert [entry.rule.verdict for entry in index.candidates(Host("host0.example.com"))] == ["allow", "deny", "deny"]
    assert [entry.rule.verdict for entry in index.candidates(Host("host1.example.com"))] == ["allow"]

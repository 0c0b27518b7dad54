"""The unit cases of the bypass corpus, each run against the pure core: host patterns, address classes, CIDR rules."""

from __future__ import annotations

import json
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from egress.policy import (
    Policy,
    Protocol,
    Refusal,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Target,
    TargetError,
    Verdict,
    classify,
    compile_policy,
    parse_host,
    parse_target,
)

CASES = [
    case
    for case in json.loads(Path(__file__).with_name("bypass_cases.json").read_text(encoding="utf-8"))
    if case["level"] == "unit"
]
KINDS = {"host_match", "ip_class", "cidr"}


def compiled(verdict: Verdict, target: Target, default: Verdict | None) -> Policy:
    """A policy of one rule."""
    rules = (Rule(verdict, (target,), "corpus.yaml", 1),)
    return compile_policy([ScopeRules(Scope.SANDBOX, rules, default)], digest="corpus", clock=time.time)


def reaches(policy: Policy, host: str, resolved: list[str]) -> bool:
    """Whether a GET of `https://HOST/` that resolves to these addresses would be dialled."""
    parsed = parse_host(host)
    if isinstance(parsed, Refusal):
        return False
    request = Request("corpus", Protocol.HTTPS, parsed, 443, "GET", "/")
    decision = policy.decide_request(request)
    return bool(policy.decide_address(request, decision, [ip_address(text) for text in resolved]).addresses)


def host_match(case: dict[str, Any]) -> bool:
    """An allow of the pattern, asked for the host. A pattern that does not load allows nothing."""
    target = parse_target(case["spec"]["pattern"])
    return isinstance(target, Target) and reaches(
        compiled(Verdict.ALLOW, target, None), case["spec"]["host"], ["93.184.216.34"]
    )


def ip_class(case: dict[str, Any]) -> bool:
    """A name that is allowed and resolves to the address, and the address itself under a default of allow."""
    address, (host,) = case["spec"]["ip"], case["spec"]["resolve"]
    target = parse_target(host)
    assert isinstance(target, Target)
    by_name = reaches(compiled(Verdict.ALLOW, target, None), host, [address])
    by_address = reaches(compiled(Verdict.ALLOW, target, Verdict.ALLOW), address, [address])
    assert by_name == by_address == classify(ip_address(address)).public
    return by_name


def cidr(case: dict[str, Any]) -> bool:
    """The address as destination, and resolved from a name, under a rule of the range; deny where the case says so."""
    verdict = Verdict.DENY if case["why"].startswith("deny CIDR") else Verdict.ALLOW
    address, target = case["spec"]["ip"], parse_target(case["spec"]["cidr"], verdict=verdict)
    if isinstance(target, TargetError):
        return False
    if verdict is Verdict.ALLOW:
        return reaches(compiled(verdict, target, None), address, [address])
    # Everything else is allowed, the ranges around included, so that nothing but the rule can deny.
    ranges = ("10.0.0.0/8", "2002::/16")
    targets = [parse_target(text) for text in ("**", address, *ranges)]
    anything = Rule(
        Verdict.ALLOW,
        tuple(each for each in targets if isinstance(each, Target)),
        "corpus.yaml",
        2,
        addresses=tuple(map(ip_network, ranges)),
    )
    denying = Rule(verdict, (target,), "corpus.yaml", 1)
    open_policy = compile_policy([ScopeRules(Scope.SANDBOX, (anything,))], digest="corpus", clock=time.time)
    held = compile_policy([ScopeRules(Scope.SANDBOX, (anything, denying))], digest="corpus", clock=time.time)
    assert reaches(open_policy, "a.example", [address])
    assert reaches(open_policy, address, [address])
    return reaches(held, "a.example", [address]) or reaches(held, address, [address])


def test_no_unit_case_is_of_an_unknown_kind() -> None:
    """None is left out silently."""
    assert {case["spec"]["kind"] for case in CASES} == KINDS
    assert len(CASES) > 50


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_unit_case(case: dict[str, Any]) -> None:
    """The core decides as the case expects."""
    run = {"host_match": host_match, "ip_class": ip_class, "cidr": cidr}[case["spec"]["kind"]]
    assert ("allow" if run(case) else "deny") == case["expected"], case["why"]

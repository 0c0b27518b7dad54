"""A policy in pieces: the same policy, with a rest after each, and let go a little at a time."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from egress.config import PolicySource, load_policy
from egress.policy import HostTarget, Policy, Rule, Scope, ScopeRules, Target, Verdict, compile_policy
from egress.server import pieces
from egress.server.pieces import Rest, pack, release, targets_in, unpack

if TYPE_CHECKING:
    from pathlib import Path

LIST = 5_000
TOP = """
version: 1
default: deny
tls: auto
rules:
- allow: {file: list.txt}
  methods: [GET]
  until: 2100-01-01T00:00:00Z
- ask: "**"
- deny: ["**", 10.0.0.0/31, "[2001:db8::1]:443", 2001:db8::/32, "*.a.test", .b.test, "c.test:8443"]
  name: never
"""


@pytest.fixture
def scopes(tmp_path: Path) -> tuple[ScopeRules, ...]:
    """Every kind of target, a long list, and more rules than one piece takes."""
    rules = "".join(f"- deny: host{number}.test\n" for number in range(100))
    (tmp_path / "policy.yaml").write_text(TOP.lstrip() + rules)
    (tmp_path / "list.txt").write_text("".join(f"host{number}.example.com\n" for number in range(LIST)))
    (tmp_path / "org.yaml").write_text("version: 1\nmode: enforce\n")
    sources = [PolicySource(Scope.SANDBOX, tmp_path / "policy.yaml"), PolicySource(Scope.ORG, tmp_path / "org.yaml")]
    return load_policy(sources).policy.scopes


def test_what_was_packed_comes_out_the_same(scopes: tuple[ScopeRules, ...]) -> None:
    """Scopes, rules in their order, and each kind of target."""
    assert tuple(unpack(pack(scopes), lambda: None)) == scopes


def test_the_size_of_policies_is_that_of_all_their_lists(scopes: tuple[ScopeRules, ...]) -> None:
    """It says whether a reload keeps them from the collector."""
    policy = compile_policy(scopes, digest="x", clock=time.time)
    assert targets_in([policy, policy]) == 2 * (LIST + 1 + 7 + 100)
    assert targets_in([]) == 0


def test_no_more_than_a_few_hundred_targets_are_read_or_compiled_without_a_rest(scopes: tuple[ScopeRules, ...]) -> None:
    """Counted, not timed: whoever serves requests beside it waits for one piece, never for a list."""
    rests = 0

    def rest() -> None:
        nonlocal rests
        rests += 1

    read = unpack(pack(scopes), rest)
    assert rests >= LIST // 250
    rests = 0
    compile_policy(read, digest="test", clock=time.time, rest=rest)
    assert rests >= LIST // 250


def test_rest_gives_way_only_after_some_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that comes at once costs nothing; one after a millisecond sleeps."""
    now, slept = 0.0, []
    monkeypatch.setattr(pieces.time, "perf_counter", lambda: now)
    monkeypatch.setattr(pieces.time, "sleep", slept.append)
    rest = Rest()
    rest()
    assert slept == []
    now = 0.0011
    rest()
    assert len(slept) == 1
    rest()
    assert len(slept) == 1


def test_a_policy_is_let_go_a_little_at_a_time() -> None:
    """Between two rests no more than a thousand targets are freed, and in the end all of them."""
    freed = 0

    class Counted(Target):
        def __del__(self) -> None:
            nonlocal freed
            freed += 1

    def policy() -> Policy:
        targets = tuple(Counted(HostTarget(f"host{number}.test", exact=True, below=False)) for number in range(LIST))
        scope = ScopeRules(Scope.SANDBOX, (Rule(Verdict.DENY, targets, "p", 1),))
        return compile_policy([scope], digest="test", clock=time.time)

    policies, steps = [policy()], [0]
    release(policies, lambda: steps.append(freed))
    assert freed == LIST
    assert policies == []
    assert max(after - before for before, after in pairwise(steps)) <= 1_000


def test_a_policy_without_rules_is_let_go_too() -> None:
    """The smallest policy there is."""
    policies = [compile_policy([], digest="test", clock=time.time)]
    release(policies, lambda: None)
    assert policies == []

"""The cost of a decision does not grow with the number of rules."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from egress.policy import Host, HostTarget, NetworkTarget, ScopeRules, Target
from egress.policy.compiled import CompiledRule, entries_of
from egress.policy.index import Index

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import decide as bench  # noqa: E402 -- the benchmark is no part of the package

from egress.policy.vocabulary import Scope  # noqa: E402 -- likewise


def filled(size: int) -> Index:
    """An index of the benchmark's rules."""
    index = Index()
    for number in range(size):
        own = bench.rule(number)
        compiled = CompiledRule(own, ScopeRules(Scope.SANDBOX, ()), 0)
        for target in own.targets:
            index.add(target, entries_of(number, compiled, target.port)[:1])
    return index


class CountingDict(dict[object, object]):
    """A dict that counts how often it is asked."""

    asked = 0

    def get(self, key: object, default: object = None) -> object:
        """Count, then answer."""
        type(self).asked += 1
        return super().get(key, default)


def work(index: Index, host: Host) -> int:
    """How many look-ups and candidates a destination costs."""
    for slot in ("_exact", "_below"):
        setattr(index, slot, CountingDict(getattr(index, slot)))
    for networks in (index._networks, index._holds):
        for tables in networks._tables.values():
            tables.update({shift: CountingDict(table) for shift, table in tables.items()})
    CountingDict.asked = 0
    return len(index.candidates(host)) + CountingDict.asked


HOSTS = [
    Host("host4.example4.com"),
    Host("www.host5.example5.com"),
    Host("unknown.test"),
    Host("11.0.3.1", ip_address("11.0.3.1")),
    Host("12.0.0.1", ip_address("12.0.0.1")),
]


@pytest.mark.parametrize("host", HOSTS, ids=str)
def test_the_work_of_a_look_up_is_the_same_at_any_size(host: Host) -> None:
    """Counted, not timed: as many look-ups and candidates at 10 rules as at 10,000."""
    assert work(filled(10), host) == work(filled(10_000), host)


def test_a_deep_name_costs_no_more_look_ups_than_the_deepest_rule() -> None:
    """A name of 127 labels is not walked to its end."""
    index = filled(10)
    assert work(index, Host(".".join(["a"] * 126))) <= 1 + 3


@pytest.mark.parametrize("method", [None, "GET"])
def test_a_decision_takes_about_as_long_with_10_rules_as_with_20_000(method: str | None) -> None:
    """Medians, with room for a busy machine; a scan of the rules would be a thousand times slower."""
    small, large = bench.policy(10), bench.policy(20_000)
    few, many = bench.requests(10, method), bench.requests(20_000, method)
    fast = min(bench.round_microseconds(small.decide_request, few) for _ in range(15))
    slow = min(bench.round_microseconds(large.decide_request, many) for _ in range(15))
    assert slow < fast * 10


def test_any_number_of_paths_costs_one_look_up() -> None:
    """Exact paths of one rule are a set."""
    from egress.policy.paths import PathPattern, PathSet, compile_path

    patterns = [compile_path(f"/a/{number}") for number in range(1_000)]
    assert all(isinstance(pattern, PathPattern) for pattern in patterns)
    paths = PathSet(tuple(pattern for pattern in patterns if isinstance(pattern, PathPattern)))
    assert not paths._others
    assert paths.match("/a/999")
    assert not paths.match("/a/1000")


def test_a_range_is_found_for_every_prefix_length() -> None:
    """From /0 to the address itself."""
    from ipaddress import ip_network

    from egress.policy import Rule, Verdict

    address = ip_address("11.22.33.44")
    index = Index()
    for length in range(33):
        network = ip_network((int(address), length), strict=False)
        own = Rule(Verdict.DENY, (Target(NetworkTarget(network)),), "policy.yaml", length)
        (entry,) = entries_of(length, CompiledRule(own, ScopeRules(Scope.SANDBOX, ()), 0), None)
        index.add(own.targets[0], (entry,))
    index.add(Target(HostTarget("11.22.33.44", exact=True, below=False)), (entry,))
    assert [entry.order for entry in index.candidates(Host("11.22.33.44", address))] == list(range(33))


def test_the_core_loads_nothing_that_does_io() -> None:
    """Pure: no sockets, no event loop, no files of ours, no third party but idna."""
    forbidden = "socket asyncio ssl http.client logging sqlite3 subprocess pydantic ruamel mitmproxy egress.config"
    probe = f"import sys; import egress.policy; print(*sorted(set(sys.modules) & set({forbidden!r}.split())))"
    ran = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.split() == []

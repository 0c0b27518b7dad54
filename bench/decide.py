"""What a decision costs: microseconds of CPU for each step at 10, 1,000 and 100,000 rules: `python bench/decide.py`.

Each figure is the median of rounds over a mix of destinations: exact names, names below a wildcard, addresses in a
range, and names that no rule knows. The must is under 10 microseconds, and within a factor of 2 between the sizes.
"""

from __future__ import annotations

import statistics
import sys
import time
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from egress.policy import (
    Host,
    HostTarget,
    NetworkTarget,
    Policy,
    Protocol,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Target,
    Verdict,
    compile_policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIZES = (10, 1_000, 100_000)
ROUNDS = 200
MIX = 200


def rule(number: int) -> Rule:
    """One of four kinds of rule, in turn."""
    name = f"host{number}.example{number % 97}.com"
    match number % 4:
        case 0:
            return Rule(Verdict.ALLOW, (Target(HostTarget(name, exact=True, below=False)),), "bench.yaml", number)
        case 1:
            return Rule(Verdict.ALLOW, (Target(HostTarget(name, exact=False, below=True)),), "bench.yaml", number)
        case 2:
            target = Target(HostTarget(name, exact=True, below=False))
            conditions = {"methods": frozenset({"GET"}), "paths": ("/public/**",)}
            return Rule(Verdict.ALLOW, (target,), "bench.yaml", number, **conditions)  # type: ignore[arg-type]
        case _:
            network = ip_network((0x0B00_0000 + (number << 8), 24))
            return Rule(Verdict.DENY, (Target(NetworkTarget(network)),), "bench.yaml", number)


def policy(size: int) -> Policy:
    """A policy of that many rules, default deny."""
    return compile_policy(
        [ScopeRules(Scope.SANDBOX, tuple(map(rule, range(size))), Verdict.DENY)], digest="bench", clock=time.time
    )


def destinations(size: int) -> list[Host]:
    """Hosts that the rules know in four ways, and some that they do not know."""
    hosts: list[Host] = []
    for step in range(MIX):
        number = step * size // MIX
        what = rule(number).targets[0].what
        match what:
            case HostTarget(name, exact, _):
                hosts.append(Host(name if exact else f"www.{name}"))
            case NetworkTarget(network):
                hosts.append(Host(str(network[1]), network[1]))
        if step % 5 == 0:
            hosts.append(Host(f"unknown{step}.test"))
    return hosts


def requests(size: int, method: str | None) -> list[Request]:
    """A request for each destination."""
    path = None if method is None else "/public/packages/a.tar.gz"
    return [Request("bench", Protocol.HTTPS, host, 443, method, path) for host in destinations(size)]


def round_microseconds(decide: Callable[[Request], object], asked: Sequence[Request]) -> float:
    """One round's CPU time for one decision."""
    start = time.process_time()
    for request in asked:
        decide(request)
    return (time.process_time() - start) / len(asked) * 1e6


def medians(compiled: Mapping[int, Policy], rounds: int = ROUNDS) -> dict[int, tuple[float, float]]:
    """For each size the median of the name step and of the request step.

    The sizes take turns in each round, so that a machine whose speed drifts drifts for all of them.
    """
    asked = {size: (requests(size, None), requests(size, "GET")) for size in compiled}
    names: dict[int, list[float]] = {size: [] for size in compiled}
    whole: dict[int, list[float]] = {size: [] for size in compiled}
    for _ in range(rounds):
        for size, policy_of_size in compiled.items():
            names[size].append(round_microseconds(policy_of_size.decide_name, asked[size][0]))
            whole[size].append(round_microseconds(policy_of_size.decide_request, asked[size][1]))
    return {size: (statistics.median(names[size]), statistics.median(whole[size])) for size in compiled}


def main() -> None:
    """Print the table."""
    out = sys.stdout
    compiled: dict[int, Policy] = {}
    built: dict[int, float] = {}
    for size in SIZES:
        start = time.process_time()
        compiled[size] = policy(size)
        built[size] = (time.process_time() - start) * 1e3
    out.write(f"{'rules':>8} {'compile ms':>11} {'name us':>8} {'request us':>11} {'both us':>8}\n")
    for size, (name, request) in medians(compiled).items():
        out.write(f"{size:>8,} {built[size]:>11.1f} {name:>8.2f} {request:>11.2f} {name + request:>8.2f}\n")


if __name__ == "__main__":
    main()

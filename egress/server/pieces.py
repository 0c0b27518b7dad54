"""The rules of a policy as bytes in small pieces, so that whoever reads them can rest between two of them.

Python runs one thread at a time. A policy with a list of 100,000 hosts takes a second to read, and a process that
judges has requests to carry meanwhile: so nothing here takes longer than about a millisecond without a rest.

1. Rules are pickled a few at a time, without their targets.
2. Targets are plain tuples, marshalled by the hundred: that reads ten times as fast as pickled objects.
"""

from __future__ import annotations

import itertools
import marshal
import pickle
import time
from collections import deque
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, assert_never

from egress.policy import AnyTarget, HostTarget, NetworkTarget, ScopeRules, Target, lean_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from egress.policy import Policy, Rule

# Rules, and then for each of them its targets, in pieces.
type Pieces = list[tuple[bytes, list[list[bytes]]]]
# A scope without its rules, and those.
type Packed = tuple[ScopeRules, Pieces]

_RULES: Final = 20
_TARGETS: Final = 250
_RELEASED: Final = 1_000
_WORK_SECONDS: Final = 0.001
_REST_SECONDS: Final = 0.001
_EXACT, _BELOW = 1, 2
_IPV4_BYTES: Final = 4


class Rest:
    """Called between two pieces of work: sleeps once enough was done since the last sleep. One thread's own."""

    __slots__ = ("_rested",)

    def __init__(self) -> None:
        self._rested = time.perf_counter()

    def __call__(self) -> None:
        """Let other threads run, if it is time."""
        if time.perf_counter() - self._rested >= _WORK_SECONDS:
            time.sleep(_REST_SECONDS)
            self._rested = time.perf_counter()


def pack(scopes: Iterable[ScopeRules]) -> list[Packed]:
    """Scopes without rules, each with its rules in pieces."""
    return [(replace(scope, rules=()), [_packed(some) for some in _by(scope.rules, _RULES)]) for scope in scopes]


def unpack(packed: Iterable[Packed], rest: Callable[[], None]) -> list[ScopeRules]:
    """What `pack` packed."""
    return [
        replace(scope, rules=tuple(rule for rules, targets in pieces for rule in _unpacked(rules, targets, rest)))
        for scope, pieces in packed
    ]


def release(policies: list[Policy], rest: Callable[[], None]) -> None:
    """Empty the list, whose policies nobody else holds, and let their targets go a few at a time."""
    targets = deque(_targets_of(policies))
    policies.clear()
    while targets:
        for _ in range(min(_RELEASED, len(targets))):
            targets.popleft()
        rest()


def targets_in(policies: Iterable[Policy]) -> int:
    """How many targets the rules of policies have together."""
    return sum(len(rule.targets) for policy in policies for scope in policy.scopes for rule in scope.rules)


def _targets_of(policies: list[Policy]) -> Iterator[Target]:
    return (target for policy in policies for scope in policy.scopes for rule in scope.rules for target in rule.targets)


def _packed(rules: tuple[Rule, ...]) -> tuple[bytes, list[list[bytes]]]:
    bare = pickle.dumps([replace(rule, targets=()) for rule in rules])
    return bare, [[marshal.dumps(list(map(_plain, some))) for some in _by(rule.targets, _TARGETS)] for rule in rules]


def _unpacked(rules: bytes, targets: list[list[bytes]], rest: Callable[[], None]) -> Iterator[Rule]:
    bare: list[Rule] = pickle.loads(rules)  # noqa: S301 - the process that forked this one wrote it
    rest()
    for rule, pieces in zip(bare, targets, strict=True):
        found: list[Target] = []
        for piece in pieces:
            found += itertools.starmap(_target, marshal.loads(piece))  # noqa: S302 - likewise
            rest()
        yield replace(rule, targets=tuple(found))


def _by[T](items: tuple[T, ...], size: int) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _plain(target: Target) -> tuple[str | bytes | None, int, int | None]:
    """A name and how it is meant; an address and the length of its range; or nothing, for any."""
    match target.what:
        case HostTarget(name, exact, below):
            return name, exact * _EXACT + below * _BELOW, target.port
        case NetworkTarget(network):
            return network.network_address.packed, network.prefixlen, target.port
        case AnyTarget():
            return None, 0, target.port
        case _:
            assert_never(target.what)


def _target(what: Any, how: int, port: int | None) -> Target:
    if isinstance(what, str):
        return Target(HostTarget(what, exact=bool(how & _EXACT), below=bool(how & _BELOW)), port)
    if what is None:
        return Target(AnyTarget(), port)
    address = IPv4Address(what) if len(what) == _IPV4_BYTES else IPv6Address(what)
    return Target(NetworkTarget(lean_network(address, how)), port)

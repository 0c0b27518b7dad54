"""Compares a rule's targets with a secret's hosts: does the binding hold always, sometimes, or never?

A binding is narrower than a rule: a host without a port means 443 alone, and a name never stands for its addresses.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from egress.config.secret_sources import StoreSource
from egress.policy import (
    AnyTarget,
    HostTarget,
    NetworkTarget,
    PathPattern,
    PathSet,
    PortRange,
    canonical_path,
    compile_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.config.secrets_model import SecretDefinition
    from egress.policy import Host, Request, Target

DEFAULT_PORT: Final = 443


class Bound(Enum):
    """How much of what a target names is inside a binding."""

    ALWAYS = "always"
    SOMETIMES = "sometimes"
    NEVER = "never"


def bound(target: Target, ports: Sequence[PortRange] | None, hosts: Iterable[Target]) -> Bound:
    """How much of `target` (on the rule's `ports`, None for 443) the secret's `hosts` cover."""
    ranges = (
        [PortRange(target.port, target.port)]
        if target.port is not None
        else list(ports or [PortRange(DEFAULT_PORT, DEFAULT_PORT)])
    )
    bindings = [host for host in hosts if any(span.first <= _port(host) <= span.last for span in ranges)]
    if not any(_meets(host, target) for host in bindings):
        return Bound.NEVER
    wanted = {port for span in ranges for port in range(span.first, span.last + 1)}
    for part in _parts(target):
        if not wanted <= {_port(host) for host in bindings if _covers(host, part)}:
            return Bound.SOMETIMES
    return Bound.ALWAYS


def is_bound(hosts: Iterable[Target], host: Host, port: int) -> bool:
    """Whether a secret bound to `hosts` may be sent to this destination."""
    return any(port == _port(target) and _holds(target, host) for target in hosts)


def allows(definition: SecretDefinition, request: Request) -> bool:
    """Whether a secret may be sent with this request, whatever a policy says. A doubtful path is none of its paths.

    One of our own store that names no hosts here is bound to those there, which is for the store to say.
    """
    stored = isinstance(definition.source, StoreSource) and not definition.hosts
    if not stored and not is_bound(definition.hosts, request.host, request.port):
        return False
    if definition.methods is not None and request.method not in definition.methods:
        return False
    return definition.paths is None or _is_below(definition.paths, request.path)


def _is_below(patterns: tuple[str, ...], path: str | None) -> bool:
    canonical = None if path is None else canonical_path(path)
    return isinstance(canonical, str) and _path_set(patterns).match(canonical)


@lru_cache(maxsize=256)
def _path_set(patterns: tuple[str, ...]) -> PathSet:
    return PathSet(tuple(pattern for text in patterns if isinstance(pattern := compile_path(text), PathPattern)))


def _port(host: Target) -> int:
    return DEFAULT_PORT if host.port is None else host.port


def _parts(target: Target) -> list[Target]:
    """`.example.com` as the name and what is below it: one binding each may cover them."""
    match target.what:
        case HostTarget(name, True, True):
            return [replace(target, what=HostTarget(name, exact, not exact)) for exact in (True, False)]
        case _:
            return [target]


def _holds(target: Target, host: Host) -> bool:
    match target.what:
        case HostTarget() as what:
            return host.address is None and _names(what, host.text)
        case NetworkTarget(network):
            return host.address is not None and host.address in network
        case _:
            return False


def _covers(host: Target, target: Target) -> bool:
    """Whether every host that `target` names is named by `host` too."""
    match host.what, target.what:
        case HostTarget() as outer, HostTarget() as inner:
            exact = not inner.exact or _names(outer, inner.name)
            below = not inner.below or (outer.below and _same_or_below(inner.name, outer.name))
            return exact and below
        case NetworkTarget(outer_network), NetworkTarget(inner_network):
            return _inside(inner_network, outer_network)
        case _:
            return False


def _meets(host: Target, target: Target) -> bool:
    """Whether some host is named by both."""
    match host.what, target.what:
        case HostTarget(), AnyTarget():
            return True
        case HostTarget() as one, HostTarget() as other:
            return (
                (one.exact and _names(other, one.name))
                or (other.exact and _names(one, other.name))
                or (
                    one.below
                    and other.below
                    and (_same_or_below(one.name, other.name) or _same_or_below(other.name, one.name))
                )
            )
        case NetworkTarget(one_network), NetworkTarget(other_network):
            return _inside(one_network, other_network) or _inside(other_network, one_network)
        case _:
            return False


def _names(target: HostTarget, name: str) -> bool:
    return (target.exact and name == target.name) or (target.below and name.endswith("." + target.name))


def _same_or_below(name: str, parent: str) -> bool:
    return name == parent or name.endswith("." + parent)


def _inside(inner: object, outer: object) -> bool:
    # `subnet_of` refuses to compare IPv4 with IPv6.
    return type(inner) is type(outer) and bool(inner.subnet_of(outer))  # type: ignore[attr-defined]

"""Whether two rules could speak about the same request. In doubt they could: who asks leaves a permission out then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy import HTTP_PROTOCOLS, AnyTarget, HostTarget, NetworkTarget, PortRange, Protocol, Verdict

if TYPE_CHECKING:
    from egress.policy import Network, Rule, Target

_EVERY_PORT = (PortRange(1, 65_535),)
_DEFAULT_PORTS = (PortRange(443, 443), PortRange(80, 80))


def overlap(one: Rule, other: Rule) -> bool:
    """Whether some request could be named by both rules. Paths and newer conditions are not compared."""
    if one.methods is not None and other.methods is not None and not one.methods & other.methods:
        return False
    if not protocols_of(one) & protocols_of(other):
        return False
    return any(
        targets_meet(mine, its) and _ports_meet(ports_of(one, mine), ports_of(other, its))
        for mine in one.targets
        for its in other.targets
    )


def ports_of(rule: Rule, target: Target) -> tuple[PortRange, ...]:
    """The ports that a rule speaks about for one of its targets."""
    if target.port is not None:
        return (PortRange(target.port, target.port),)
    if rule.ports is not None:
        return rule.ports
    return _DEFAULT_PORTS if rule.verdict is Verdict.ALLOW else _EVERY_PORT


def protocols_of(rule: Rule) -> frozenset[Protocol]:
    """The protocols that a rule speaks about, at most."""
    if rule.protocols is not None:
        # gRPC is HTTPS.
        return rule.protocols | {Protocol.GRPC} if Protocol.HTTPS in rule.protocols else rule.protocols
    return HTTP_PROTOCOLS if rule.verdict is Verdict.ALLOW else frozenset(Protocol)


def targets_meet(one: Target, other: Target) -> bool:
    """Whether both name some destination, ports aside. `**` may name addresses too."""
    match one.what, other.what:
        case (AnyTarget(), _) | (_, AnyTarget()):
            return True
        case HostTarget() as mine, HostTarget() as its:
            return _names_meet(mine, its) or _names_meet(its, mine)
        case NetworkTarget(mine_network), NetworkTarget(its_network):
            return networks_meet(mine_network, its_network)
        case _:
            return False


def networks_meet(one: Network, other: Network) -> bool:
    """Whether two ranges have an address in common."""
    return one.version == other.version and one.overlaps(other)


def _names_meet(one: HostTarget, other: HostTarget) -> bool:
    if one.name == other.name:
        return (one.exact and other.exact) or (one.below and other.below)
    return other.below and one.name.endswith(f".{other.name}")


def _ports_meet(mine: tuple[PortRange, ...], its: tuple[PortRange, ...]) -> bool:
    return any(one.first <= other.last and other.first <= one.last for one in mine for other in its)

"""Which rules name a destination, and which destinations no two policies could tell apart: the ground of a diff.

A destination is judged by the targets that name it (and, for an address, by its kind). So two destinations that are
named by the same targets of rules that say the same get the same answers, and one of them speaks for both. What a rule
says is kept as a number: the same number, the same content, whatever its file, line and name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from egress.policy import AnyTarget, HostTarget, NetworkTarget, Verdict, classify, readings
from egress.policy.addresses import own_class
from egress.policy.targets import unmap_network

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from egress.policy import Address, Host, Network, Policy, Rule, Target

# One address of each kind that the address step tells apart.
KINDS: Final[tuple[Address, ...]] = tuple(
    ip_address(text)
    for text in (
        *("9.9.9.9", "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "169.254.169.254", "192.0.0.8"),  # noqa: S104
        *("192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("2606:4700::1", "::", "::1", "::9", "::ffff:0:0:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1"),
        *("2001:db8::1", "2002::1", "fd00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1"),
    )
)
_NAT64: Final = int(ip_address("64:ff9b::"))
_SIX_TO_FOUR: Final = int(ip_address("2002::"))
_IPV4: Final = 4


@dataclass(frozen=True, slots=True)
class Named:
    """A target that names a destination, with its rule; `meaning` is equal where scope, rule, port and range are."""

    order: int
    rule: Rule
    target: Target
    meaning: int


@dataclass(slots=True)
class Meanings:
    """Numbers for what rules say, shared by the policies that are compared."""

    numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, content: Hashable) -> int:
        """The number of this content."""
        return self.numbers.setdefault(content, len(self.numbers))


class Names:
    """The targets of one policy, found by the destination that they name, in the order of judging."""

    def __init__(self, policy: Policy, meanings: Meanings) -> None:
        self._exact: dict[str, list[Named]] = {}
        self._below: dict[str, list[Named]] = {}
        self._any: list[Named] = []
        self._ranges: dict[tuple[int, int], dict[int, list[Named]]] = {}
        self.held: list[Named] = []
        order = 0
        for scope in policy.scopes:
            for rule in scope.rules:
                content = (scope.scope, meanings.number(replace(rule, file="", line=None, name=None, targets=())))
                for target in rule.targets:
                    network = target.what.network if isinstance(target.what, NetworkTarget) else None
                    self._add(Named(order, rule, target, meanings.number((content, target.port, network))))
                    order += 1

    def naming(self, host: Host) -> tuple[Named, ...]:
        """The targets that name the destination, by any reading of it."""
        if host.address is not None:
            return self.naming_address(host.address)
        labels = host.text.split(".")
        found = self._any + self._exact.get(host.text, [])
        for start in range(1, len(labels)):
            found = found + self._below.get(".".join(labels[start:]), [])
        return tuple(sorted(found, key=_by_order))

    def naming_address(self, address: Address) -> tuple[Named, ...]:
        """The targets whose range holds any reading of the address, and those that name everything."""
        found = {named.order: named for named in self._any}
        for reading in readings(address):
            for (version, shift), table in self._ranges.items():
                if version == reading.version:
                    found |= {named.order: named for named in table.get(int(reading) >> shift, ())}
        return tuple(found[order] for order in sorted(found))

    def _add(self, named: Named) -> None:
        match named.target.what:
            case HostTarget(name, exact, below):
                if exact:
                    self._exact.setdefault(name, []).append(named)
                if below:
                    self._below.setdefault(name, []).append(named)
            case AnyTarget():
                self._any.append(named)
            case NetworkTarget(network):
                own = unmap_network(network)
                shift = own.max_prefixlen - own.prefixlen
                table = self._ranges.setdefault((own.version, shift), {})
                table.setdefault(int(own.network_address) >> shift, []).append(named)
                if named.rule.verdict is not Verdict.ALLOW:
                    self.held.append(named)


def _by_order(named: Named) -> int:
    return named.order


def edges(networks: set[Network]) -> Iterator[Address]:
    """Addresses at which membership in the ranges changes: where each begins, what follows it, and one of each kind.

    Where IPv6 ranges are named, the IPv4 ones are asked for inside NAT64 and 6to4 addresses too.
    """
    yield from KINDS
    inside = any(network.version != _IPV4 for network in networks)
    for network in map(unmap_network, networks):
        first, after = int(network.network_address), int(network.broadcast_address) + 1
        yield network.network_address
        if after < 1 << network.max_prefixlen:
            yield type(network.network_address)(after)
        if inside and network.version == _IPV4:
            yield ip_address(_NAT64 | first)
            yield ip_address(_SIX_TO_FOUR | first << 80)


def kind_of_address(address: Address) -> Hashable:
    """What the address step sees of an address besides the ranges that name it."""
    return classify(address), tuple(own_class(reading) for reading in readings(address))

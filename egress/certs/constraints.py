"""Name constraints of the CA (RFC 5280, section 4.2.1.10): the only names and addresses that its leaves may bear.

1. A name holds for itself and everything below it, as the RFC has it; an address or a network for what it contains.
2. A constraint speaks of its own type alone. So a CA that is constrained to names excludes every address, and one
   that is constrained to addresses every name: else the type that was forgotten would be wide open.
3. The extension is critical: a client that does not understand it refuses the CA rather than trusting it for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Self

from cryptography import x509

from egress.errors import StateError
from egress.policy import Refusal, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterable

type Network = IPv4Network | IPv6Network

_NO_ADDRESS = (x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0")))
_NO_NAME = (x509.DNSName(""),)
_WRITE = "write a host (`corp.example`: it and what is below), an address, or a network (`10.0.0.0/8`)"


@dataclass(frozen=True)
class NameConstraints:
    """What a CA may sign for. `names` in lower case, without a leading dot; both empty: it is not constrained."""

    names: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """From what people write. Raises `StateError` for what is neither a host nor an address nor a network."""
        names: dict[str, None] = {}
        networks: dict[Network, None] = {}
        for text in texts:
            network = _network(text)
            if network is not None:
                networks[network] = None
            else:
                names[_name(text)] = None
        return cls(tuple(names), tuple(networks))

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Those of a CA; only what permits counts, since nothing else is ever written by us."""
        try:
            found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return cls()
        permitted = found.permitted_subtrees or ()
        names = tuple(own.value.lower() for own in permitted if isinstance(own, x509.DNSName))
        values = [own.value for own in permitted if isinstance(own, x509.IPAddress)]
        return cls(names, tuple(own for own in values if isinstance(own, IPv4Network | IPv6Network)))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.names or self.networks)

    def __str__(self) -> str:
        """As people write them."""
        return ", ".join((*self.names, *map(str, self.networks)))

    def permit(self, host: str) -> bool:
        """Whether a leaf for `host` (a canonical name, or an address without brackets) may be signed."""
        if not self:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return host in self._names or any(below in self._names for below in _parents(host))
        return any(address in network for network in self.networks)

    def extension(self) -> x509.NameConstraints:
        """As the CA's certificate has it."""
        permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in self.names]
        permitted += [x509.IPAddress(network) for network in self.networks]
        versions = {network.version for network in self.networks}
        # Of addresses, each version is a type of its own only in length, yet verifiers differ on what an IPv4
        # constraint says of an IPv6 address: it is written out.
        excluded: list[x509.GeneralName] = [
            every for every, version in zip(_NO_ADDRESS, (4, 6), strict=True) if version not in versions
        ]
        excluded += () if self.names else _NO_NAME
        return x509.NameConstraints(permitted, excluded or None)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.names)


def _parents(host: str) -> list[str]:
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


def _network(text: str) -> Network | None:
    try:
        return ip_network(text.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        if "/" in text:
            raise StateError(f"`{text}` is no network: {error}", hint=_WRITE) from error
        return None


def _name(text: str) -> str:
    parsed = parse_host(text.removeprefix("."))
    if isinstance(parsed, Refusal) or parsed.address is not None:
        raise StateError(f"`{text}` is no name to constrain a CA to", hint=_WRITE)
    return parsed.text

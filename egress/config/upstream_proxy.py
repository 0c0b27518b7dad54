"""The proxy that is the way out, as configuration says it. A plain value: the password is named, not held."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

# Pydantic looks at `Host` at run time.
from egress.policy import AddressClass, Host, NetworkTarget, classify, target_covers

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config.secret_sources import LeafSource
    from egress.policy import Address, Target


_OF_THIS_MACHINE: Final = frozenset(
    {AddressClass.LOOPBACK, AddressClass.LINK_LOCAL, AddressClass.UNSPECIFIED, AddressClass.METADATA}
)


class ProxyScheme(StrEnum):
    """How the proxy is spoken to."""

    HTTP = "http"
    HTTPS = "https"
    SOCKS5 = "socks5"


class ConnectBy(StrEnum):
    """What the proxy is asked for: the address that was checked, or the name, which it resolves anew."""

    ADDRESS = "address"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where the proxy is: an address, or a name that our resolver knows."""

    scheme: ProxyScheme
    host: Host
    port: int

    def __str__(self) -> str:
        host = f"[{self.host.text}]" if ":" in self.host.text else self.host.text
        return f"{self.scheme.value}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """`direct`: destinations that are dialled without it. `ca`: PEM files of roots that it alone is verified with."""

    address: ProxyAddress
    user: str | None = None
    password: LeafSource | None = None
    connect: ConnectBy = ConnectBy.ADDRESS
    direct: tuple[Target, ...] = ()
    ca: tuple[Path, ...] = ()

    def serves(self, host: Host, port: int, address: Address) -> bool:
        """Whether a connection to the destination, at this checked address, goes through the proxy.

        Loopback, link-local and metadata addresses never do: at the proxy they would be its own machine, and its own
        cloud's metadata, which is not what was judged.
        """
        if classify(address) in _OF_THIS_MACHINE:
            return False
        return not any(target_covers(target, host, port) or _covers(target, port, address) for target in self.direct)


def _covers(target: Target, port: int, address: Address) -> bool:
    at = target.port is None or target.port == port
    return at and isinstance(target.what, NetworkTarget) and address in target.what.network

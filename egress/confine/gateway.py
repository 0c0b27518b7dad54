"""What a gateway confines, and where it sends it: the value from which the rules are written, and its own spelling.

Two forms. `Subnet`: what comes in from interfaces or addresses, routed through this host. `ThisHost`: what users of
this host send, for a sidecar in the network namespace of its sandbox.

A value that was made holds what the rules rely on; everything wrong with one raises GatewayError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from egress.errors import GatewayError
from egress.policy import is_sandbox_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

type Network = IPv4Network | IPv6Network
type Address = IPv4Address | IPv6Address

TABLE: Final = "egress"
PORT: Final = 3129
_TABLE: Final = re.compile(r"egress[a-z0-9_]{0,24}\Z")
# What the kernel allows and nft needs no quoting for; `*` would be a wildcard.
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")
_LAST_PORT: Final = 65_535
# The last one means "no user".
_LAST_UID: Final = 2**32 - 2


class Ipv6(StrEnum):
    """`REDIRECT`: to the proxy, as IPv4. `REJECT`: refused by rule, for a gateway that has no IPv6."""

    REDIRECT = "redirect"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Pair:
    """A sandbox, the interface that it alone is behind, and its address there."""

    name: str
    interface: str
    address: Address

    def __str__(self) -> str:
        return f"{self.name}={self.interface}:{self.address}"


@dataclass(frozen=True, slots=True)
class Subnet:
    """Traffic that comes in. With interfaces, `sources` bounds their addresses; without, it says what is confined."""

    interfaces: tuple[str, ...] = ()
    sources: tuple[Network, ...] = ()
    pairs: tuple[Pair, ...] = ()
    open_ports: tuple[int, ...] = ()
    tproxy: bool = False

    def __post_init__(self) -> None:
        for name in (*self.interfaces, *(pair.interface for pair in self.pairs)):
            _check_interface(name)
        if not (self.interfaces or self.sources or self.pairs):
            raise GatewayError(
                "nothing says what is to be confined",
                hint="write `--interface lan0`, `--source 10.8.0.0/24`, or `--this-host --uid agent`",
            )
        for source in self.sources:
            _check_source(source)
        places = {(pair.address, pair.interface) for pair in self.pairs}
        if len({address for address, _ in places}) < len(places):
            raise GatewayError("one address is bound to two interfaces", hint="give each sandbox an address of its own")

    @property
    def behind(self) -> tuple[str, ...]:
        """Every interface with sandboxes behind it, once."""
        return tuple(dict.fromkeys((*self.interfaces, *(pair.interface for pair in self.pairs))))

    def sources_of(self, interface: str) -> tuple[Network, ...]:
        """The addresses that may come in by an interface; none: those that are routed back through it."""
        paired = tuple(ip_network(pair.address) for pair in self.pairs if pair.interface == interface)
        return paired or self.sources


@dataclass(frozen=True, slots=True)
class ThisHost:
    """Traffic of users of this host: of `uids`, or of everybody but `except_uids`."""

    uids: tuple[int, ...] = ()
    except_uids: tuple[int, ...] = ()
    closed_ports: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.uids) is bool(self.except_uids):
            raise GatewayError(
                "`--this-host` needs either the users that are confined, or those that are not",
                hint="write `--uid agent`, or `--except-uid egress` for everybody but the proxy's user",
            )
        for uid in (*self.uids, *self.except_uids):
            if not 0 <= uid <= _LAST_UID:
                raise GatewayError(f"{uid} is no user's number")

    def confines(self, uid: int) -> bool:
        """Whether the rules hold a user."""
        return uid in self.uids if self.uids else uid not in self.except_uids


@dataclass(frozen=True, slots=True)
class Gateway:
    """One table of rules. `closed`: nothing is redirected, all is refused."""

    confined: Subnet | ThisHost
    table: str = TABLE
    port: int = PORT
    dns_port: int | None = None
    ipv6: Ipv6 = Ipv6.REDIRECT
    closed: bool = False

    def __post_init__(self) -> None:
        check_table(self.table)
        used = [self.port, *([] if self.dns_port is None else [self.dns_port]), *self._others()]
        for port in used:
            if not 1 <= port <= _LAST_PORT:
                raise GatewayError(f"{port} is no port")
        if len(set(used)) < len(used):
            raise GatewayError("one port is named for two purposes", hint="give each of them a port of its own")

    def _others(self) -> tuple[int, ...]:
        confined = self.confined
        return confined.open_ports if isinstance(confined, Subnet) else confined.closed_ports

    def left_closed(self) -> Gateway:
        """The same, with nothing redirected."""
        return replace(self, closed=True)


def check_table(name: str) -> None:
    """Raise GatewayError for a name that no table of ours can have."""
    if not _TABLE.match(name):
        raise GatewayError(f"`{name}` is no name for a table of ours", hint="write `egress`, or `egress_2`")


def options(gateway: Gateway) -> tuple[tuple[str, str], ...]:
    """The options of `egress gateway up` that make this value, in one order; a flag has no text."""
    confined = gateway.confined
    told: list[tuple[str, object]] = [("table", gateway.table), ("port", gateway.port)]
    if gateway.dns_port is not None:
        told.append(("dns-port", gateway.dns_port))
    told.append(("ipv6", gateway.ipv6.value))
    if isinstance(confined, Subnet):
        told += [("interface", name) for name in confined.interfaces]
        told += [("source", network) for network in confined.sources]
        told += [("sandbox", pair) for pair in confined.pairs]
        told += [("open-port", port) for port in confined.open_ports]
        told += [("tproxy", "")] if confined.tproxy else []
    else:
        told.append(("this-host", ""))
        told += [("uid", uid) for uid in confined.uids]
        told += [("except-uid", uid) for uid in confined.except_uids]
        told += [("closed-port", port) for port in confined.closed_ports]
    told += [("closed", "")] if gateway.closed else []
    return tuple((name, str(text)) for name, text in told)


def of_options(told: Sequence[tuple[str, str]]) -> Gateway:
    """The value that `options` spelled. Raises GatewayError, also for what it never wrote."""
    found: dict[str, list[str]] = {}
    for name, text in told:
        found.setdefault(name, []).append(text)
    try:
        return Gateway(
            _confined(found),
            table=found["table"][0],
            port=int(found["port"][0]),
            dns_port=int(found["dns-port"][0]) if "dns-port" in found else None,
            ipv6=Ipv6(found["ipv6"][0]),
            closed="closed" in found,
        )
    except (KeyError, ValueError) as error:
        raise GatewayError("the table does not say what it was made for") from error


def _confined(found: dict[str, list[str]]) -> Subnet | ThisHost:
    if "this-host" in found:
        return ThisHost(
            uids=_numbers(found.get("uid", ())),
            except_uids=_numbers(found.get("except-uid", ())),
            closed_ports=_numbers(found.get("closed-port", ())),
        )
    return Subnet(
        interfaces=tuple(found.get("interface", ())),
        sources=tuple(parse_source(text) for text in found.get("source", ())),
        pairs=tuple(parse_pair(text) for text in found.get("sandbox", ())),
        open_ports=_numbers(found.get("open-port", ())),
        tproxy="tproxy" in found,
    )


def parse_source(text: str) -> Network:
    """An address or range, as `--source` takes it. Raises GatewayError."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise GatewayError(f"`{text}` is no range of addresses: {error}", hint="write `10.8.0.0/24`") from error


def parse_pair(text: str) -> Pair:
    """A sandbox with its interface and address, as `--sandbox` takes it. Raises GatewayError."""
    name, _, place = text.partition("=")
    interface, _, address = place.partition(":")
    try:
        pair = Pair(name, interface, ip_address(address))
    except ValueError as error:
        hint = "write NAME=INTERFACE:ADDRESS, as in `ci-7=veth7:10.8.0.7`"
        raise GatewayError(f"`{text}` binds no sandbox to an address", hint=hint) from error
    if not is_sandbox_word(name) or getattr(pair.address, "scope_id", None):
        raise GatewayError(f"`{text}` binds no sandbox to an address", hint="a name is a-z, 0-9 and `-`")
    return pair


def _numbers(texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(int(text) for text in texts)


def _check_interface(name: str) -> None:
    if not _INTERFACE.match(name):
        raise GatewayError(f"`{name}` is no name of an interface", hint="name one interface; there are no wildcards")
    if name == "lo":
        raise GatewayError("`lo` is no interface that sandboxes are behind", hint="for this host's users: --this-host")


def _check_source(source: Network) -> None:
    if not source.prefixlen or source.is_loopback or source.is_multicast:
        raise GatewayError(f"`{source}` names no sandboxes", hint="name the range that they have, or their --interface")

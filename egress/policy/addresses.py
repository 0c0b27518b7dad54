"""Which kind of place an IP address is. Own table: the standard library calls NAT64 of 10.0.0.1 and fec0:: global.

The table holds the IANA special-purpose registries (RFC 6890 and its updates) and the addresses at which clouds serve
credentials. IPv6 is public only inside 2000::/3; whatever the table does not name outside of it is reserved.

An IPv6 address that carries an IPv4 address inside (mapped, compatible, NAT64, SIIT, 6to4, Teredo, ISATAP) has several
readings, since a router on the way may unwrap it. `readings` gives them all.
INVARIANT private-by-default: an address is public only if every reading of it is.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress.policy.values import Address, Network


class AddressClass(StrEnum):
    """What an address is. Every member but `public` needs a rule that names its range."""

    PUBLIC = "public"
    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    SITE_LOCAL = "site-local"
    METADATA = "cloud metadata service"
    CGNAT = "carrier-grade NAT"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    DOCUMENTATION = "documentation"
    BENCHMARKING = "benchmarking"
    DISCARD = "discard-only"
    PROTOCOL_ASSIGNMENT = "IETF protocol assignment"
    RELAY_ANYCAST = "6to4 relay anycast"
    SIX_TO_FOUR = "6to4"
    TEREDO = "Teredo"
    NAT64_LOCAL = "local-use NAT64"
    IPV4_COMPATIBLE = "IPv4-compatible"
    IPV4_TRANSLATED = "IPv4-translated"
    RESERVED = "reserved"

    @property
    def public(self) -> bool:
        """True for the public Internet only."""
        return self is AddressClass.PUBLIC


# In order: the first row that holds the address speaks. A single address is a /32 or /128.
_TABLE: Final = (
    # Where clouds hand out credentials and machine identity.
    ("169.254.169.254/32", AddressClass.METADATA),  # AWS, Azure, Google, DigitalOcean, Hetzner, OpenStack
    ("169.254.170.2/32", AddressClass.METADATA),  # AWS ECS task credentials
    ("169.254.170.23/32", AddressClass.METADATA),  # AWS EKS pod identity
    ("169.254.0.23/32", AddressClass.METADATA),  # Tencent
    ("169.254.42.42/32", AddressClass.METADATA),  # Scaleway
    ("100.100.100.200/32", AddressClass.METADATA),  # Alibaba
    ("168.63.129.16/32", AddressClass.METADATA),  # Azure WireServer, a public address
    ("192.0.0.192/32", AddressClass.METADATA),  # Oracle, old
    ("fd00:ec2::254/128", AddressClass.METADATA),  # AWS
    ("fd00:ec2::23/128", AddressClass.METADATA),  # AWS EKS pod identity
    ("fd20:ce::254/128", AddressClass.METADATA),  # Google
    ("fd00:42::42/128", AddressClass.METADATA),  # Scaleway
    ("fe80::a9fe:a9fe/128", AddressClass.METADATA),  # OpenStack
    ("0.0.0.0/8", AddressClass.UNSPECIFIED),  # RFC 1122; Linux connects 0.0.0.0 to loopback
    ("10.0.0.0/8", AddressClass.PRIVATE),  # RFC 1918
    ("100.64.0.0/10", AddressClass.CGNAT),  # RFC 6598
    ("127.0.0.0/8", AddressClass.LOOPBACK),
    ("169.254.0.0/16", AddressClass.LINK_LOCAL),  # RFC 3927
    ("172.16.0.0/12", AddressClass.PRIVATE),  # RFC 1918
    ("192.0.0.0/24", AddressClass.PROTOCOL_ASSIGNMENT),  # RFC 6890
    ("192.0.2.0/24", AddressClass.DOCUMENTATION),  # RFC 5737
    ("192.88.99.0/24", AddressClass.RELAY_ANYCAST),  # RFC 7526
    ("192.168.0.0/16", AddressClass.PRIVATE),  # RFC 1918
    ("198.18.0.0/15", AddressClass.BENCHMARKING),  # RFC 2544
    ("198.51.100.0/24", AddressClass.DOCUMENTATION),
    ("203.0.113.0/24", AddressClass.DOCUMENTATION),
    ("224.0.0.0/4", AddressClass.MULTICAST),
    ("255.255.255.255/32", AddressClass.BROADCAST),
    ("240.0.0.0/4", AddressClass.RESERVED),
    ("0.0.0.0/0", AddressClass.PUBLIC),
    ("::/128", AddressClass.UNSPECIFIED),
    ("::1/128", AddressClass.LOOPBACK),
    ("::/96", AddressClass.IPV4_COMPATIBLE),  # RFC 4291, deprecated
    ("::ffff:0:0:0/96", AddressClass.IPV4_TRANSLATED),  # RFC 2765
    ("64:ff9b::/96", AddressClass.PUBLIC),  # NAT64 (RFC 6052): as public as the IPv4 address inside
    ("64:ff9b:1::/48", AddressClass.NAT64_LOCAL),  # RFC 8215
    ("100::/64", AddressClass.DISCARD),  # RFC 6666
    ("2001::/32", AddressClass.TEREDO),  # RFC 4380
    ("2001::/23", AddressClass.PROTOCOL_ASSIGNMENT),  # RFC 2928
    ("2001:db8::/32", AddressClass.DOCUMENTATION),  # RFC 3849
    ("2002::/16", AddressClass.SIX_TO_FOUR),  # RFC 3056
    ("3ffe::/16", AddressClass.RESERVED),  # 6bone, returned: RFC 3701
    ("3fff::/20", AddressClass.DOCUMENTATION),  # RFC 9637
    ("2000::/3", AddressClass.PUBLIC),
    ("fc00::/7", AddressClass.PRIVATE),  # RFC 4193
    ("fe80::/10", AddressClass.LINK_LOCAL),
    ("fec0::/10", AddressClass.SITE_LOCAL),  # RFC 3879
    ("ff00::/8", AddressClass.MULTICAST),
    ("::/0", AddressClass.RESERVED),
)


def _rows(version: int) -> tuple[tuple[int, int, AddressClass, Network], ...]:
    networks = ((ip_network(text), kind) for text, kind in _TABLE)
    return tuple(
        (int(network.network_address), int(network.broadcast_address), kind, network)
        for network, kind in networks
        if network.version == version
    )


_ROWS: Final = {4: _rows(4), 6: _rows(6)}

_MASK32 = 0xFFFF_FFFF
_NAT64 = 0x0064_FF9B << 96
_NAT64_LOCAL = 0x0064_FF9B_0001 << 80
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
# Addresses of ::/96 that are not IPv4-compatible: `::` and `::1`.
_FIRST_COMPATIBLE = 2


def unmap(address: Address) -> Address:
    """The address itself; an IPv4-mapped IPv6 address as the IPv4 address that it is, and no zone."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv6Address(int(address)) if address.scope_id is not None else address


def readings(address: Address) -> tuple[Address, ...]:
    """Every address that a router might take this one for: itself, unmapped, then each IPv4 address inside it."""
    own = unmap(address)
    if isinstance(own, IPv4Address):
        return (own,)
    return (own, *map(IPv4Address, _embedded(int(own))))


@lru_cache(maxsize=8_192)
def classify(address: Address) -> AddressClass:
    """What the address is: the class of its most telling reading that is not public, else `public`."""
    kinds = [own_class(reading) for reading in readings(address)]
    special = [kind for kind in kinds if not kind.public]
    # The IPv4 address inside says more than the wrapper around it.
    return special[-1] if special else AddressClass.PUBLIC


def own_class(reading: Address) -> AddressClass:
    """The class of one reading, whatever it carries inside."""
    return _row(reading)[0]


def named_range(address: Address) -> Network:
    """The range to name in `addresses` for this address: the whole block if private, else the address alone."""
    kind, network = _row(address)
    if kind in {AddressClass.PRIVATE, AddressClass.CGNAT} and address.version == 4:  # noqa: PLR2004 -- IP version
        return network
    return ip_network(address)


def _row(reading: Address) -> tuple[AddressClass, Network]:
    value = int(reading)
    for first, last, kind, network in _ROWS[reading.version]:
        if first <= value <= last:
            return kind, network
    raise AssertionError("the last row of the table holds every address")  # pragma: no cover


def _embedded(value: int) -> tuple[int, ...]:  # noqa: PLR0911 -- one return a notation
    low = value & _MASK32
    high96 = value >> 32 << 32
    if high96 == 0:
        return (low,) if value >= _FIRST_COMPATIBLE else ()
    if high96 in {_NAT64, 0xFFFF << 48}:
        return (low,)
    if value >> 80 << 80 == _NAT64_LOCAL:
        return _rfc6052(value)
    if value >> 112 == 0x2002:  # noqa: PLR2004 -- 6to4
        return (value >> 80 & _MASK32,)
    if value >> 96 == 0x2001_0000:  # noqa: PLR2004 -- Teredo: the server, and the client, which is inverted
        return (value >> 64 & _MASK32, low ^ _MASK32)
    if value >> 32 & _MASK32 in _ISATAP:
        return (low,)
    return ()


def _rfc6052(value: int) -> tuple[int, ...]:
    """IPv4 inside local-use NAT64, for the prefix lengths that fit 64:ff9b:1::/48 (RFC 6052, 2.2): 48, 56, 64, 96."""
    high16, low16 = value >> 64 & 0xFFFF, value >> 40 & 0xFFFF
    at48 = high16 << 16 | low16
    at56 = (value >> 64 & 0xFF) << 24 | value >> 32 & 0xFF_FFFF
    at64 = value >> 24 & _MASK32
    # The layouts not in use read as 0.x.x.x, which is no address at all.
    return tuple(read for read in (at48, at56, at64, value & _MASK32) if read > 0x00FF_FFFF)  # noqa: PLR2004 -- 0/8

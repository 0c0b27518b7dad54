"""The classifier: each special range, each way to carry an IPv4 address inside IPv6, and their edges."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy import AddressClass, classify, readings, unmap

CLASSES = [
    ("8.8.8.8", "public"),
    ("93.184.216.34", "public"),
    ("1.0.0.0", "public"),
    ("9.255.255.255", "public"),
    ("11.0.0.0", "public"),
    ("100.63.255.255", "public"),
    ("100.128.0.0", "public"),
    ("172.15.255.255", "public"),
    ("172.32.0.0", "public"),
    ("198.17.255.255", "public"),
    ("198.20.0.0", "public"),
    ("223.255.255.255", "public"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.0.0.1", "private"),
    ("172.16.0.0", "private"),
    ("172.31.255.255", "private"),
    ("192.168.255.255", "private"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.1.1", "link-local"),
    ("169.254.169.123", "link-local"),
    ("169.254.169.254", "cloud metadata service"),
    ("169.254.170.2", "cloud metadata service"),
    ("169.254.170.23", "cloud metadata service"),
    ("100.100.100.200", "cloud metadata service"),
    ("168.63.129.16", "cloud metadata service"),
    ("192.0.0.192", "cloud metadata service"),
    ("fd00:ec2::254", "cloud metadata service"),
    ("fd20:ce::254", "cloud metadata service"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("192.0.0.1", "IETF protocol assignment"),
    ("192.0.2.1", "documentation"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.255", "documentation"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("192.88.99.1", "6to4 relay anycast"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("2606:4700::1", "public"),
    ("2a00:1450::1", "public"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("fc00::1", "private"),
    ("fdff::1", "private"),
    ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("100::1", "discard-only"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("3ffe::1", "reserved"),
    ("5f00::1", "reserved"),
    ("4000::1", "reserved"),
    ("2001:2::1", "IETF protocol assignment"),
    ("2001:0:808:808::f7f7:f7f7", "Teredo"),
    ("64:ff9b:1::1", "local-use NAT64"),
    ("2002:808:808::1", "6to4"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:0:8.8.8.8", "IPv4-translated"),
    ("::ffff:8.8.8.8", "public"),
    ("64:ff9b::8.8.8.8", "public"),
    ("::ffff:10.0.0.1", "private"),
    ("::10.0.0.1", "private"),
    ("64:ff9b::a00:1", "private"),
    ("64:ff9b::7f00:1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "cloud metadata service"),
    ("64:ff9b:1::a9fe:a9fe", "cloud metadata service"),
    ("64:ff9b:1:a00:0:100::", "private"),
    ("2002:a00:1::1", "private"),
    ("2002:a9fe:a9fe::", "cloud metadata service"),
    ("::ffff:0:127.0.0.1", "loopback"),
    ("2001:0:808:808::f5ff:fffe", "private"),
    ("2606:4700::5efe:10.0.0.1", "private"),
    ("2606:4700::200:5efe:7f00:1", "loopback"),
    ("2606:4700::5efe:8.8.8.8", "public"),
    ("fe80::5efe:7f00:1", "loopback"),
]


@pytest.mark.parametrize(("text", "kind"), CLASSES)
def test_an_address_has_the_class_of_its_range(text: str, kind: str) -> None:
    """Both edges of the ranges that people reach by accident or on purpose."""
    assert classify(ip_address(text)) == kind


_SPECIAL = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3"
SPECIAL = [ip_network(text) for text in _SPECIAL.split()]
special_v4 = st.one_of(*(st.ip_addresses(v=4, network=str(network)) for network in SPECIAL)).map(int)
EMBEDDINGS = {
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: 0xFFFF << 48 | v4,
    "NAT64": lambda v4: 0x0064_FF9B << 96 | v4,
    "local NAT64": lambda v4: 0x0064_FF9B_0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "Teredo client": lambda v4: 0x2001_0000_0808_0808 << 64 | v4 ^ 0xFFFF_FFFF,
    "Teredo server": lambda v4: 0x2001_0000 << 96 | v4 << 64 | 1,
    "ISATAP": lambda v4: 0x2606_4700 << 96 | 0x5EFE << 32 | v4,
}


@pytest.mark.parametrize("name", EMBEDDINGS)
@given(v4=special_v4)
def test_every_embedding_of_a_special_address_is_special(name: str, v4: int) -> None:
    """A router may unwrap it, so what is private stays private inside IPv6."""
    assert not classify(IPv6Address(EMBEDDINGS[name](v4))).public


@pytest.mark.parametrize("name", [name for name in EMBEDDINGS if "local" not in name])
@given(v4=st.ip_addresses(v=4).map(int).filter(lambda value: value > 1))
def test_the_ipv4_address_inside_is_among_the_readings(name: str, v4: int) -> None:
    """Denials of IPv4 ranges look at every reading."""
    assert IPv4Address(v4) in readings(IPv6Address(EMBEDDINGS[name](v4)))


@given(st.ip_addresses())
def test_what_is_public_is_public_in_every_reading(address: IPv4Address | IPv6Address) -> None:
    """And the standard library, where it is stricter, agrees for IPv4."""
    kind = classify(address)
    assert kind.public == all(classify(reading).public for reading in readings(address))
    if isinstance(address, IPv4Address) and kind.public:
        assert address.is_global
    assert kind in AddressClass


def test_a_mapped_address_is_the_ipv4_address() -> None:
    """It is dialled and compared as such, and a zone is dropped."""
    assert unmap(IPv6Address("::ffff:10.0.0.1")) == IPv4Address("10.0.0.1")
    assert unmap(IPv6Address("fe80::1%eth0")) == IPv6Address("fe80::1")
    assert unmap(IPv6Address("2606:4700::1")) == IPv6Address("2606:4700::1")

"""The proxy's own listeners are never dialled, by whatever address of this machine."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from egress.gate import own
from egress.gate.endpoints import METADATA_ADDRESSES
from egress.gate.own import OwnListeners, is_local

ADDRESSES = [
    ("127.0.0.1", 3128, True),
    ("127.9.9.9", 3128, True),
    ("::1", 3128, True),
    ("0.0.0.0", 3128, True),
    ("127.0.0.1", 3129, False),
    ("192.0.2.1", 3128, False),
    ("2001:db8::1", 3128, False),
    ("8.8.8.8", 443, False),
]


@pytest.mark.parametrize(("address", "port", "ours"), ADDRESSES)
def test_own_listener_is_any_address_of_this_machine_on_its_port(*, address: str, port: int, ours: bool) -> None:
    """Every local address counts, whichever the listener was bound to; another port does not."""
    assert OwnListeners({3128}).includes(ip_address(address), port) is ours


def test_without_listeners_nothing_is_ours() -> None:
    """The set starts empty."""
    assert not OwnListeners().includes(ip_address("127.0.0.1"), 3128)


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("169.254.169.254", True),
        ("fd00:ec2::254", True),
        ("fd20:ce::254", True),
        ("169.254.169.253", False),
    ],
)
def test_what_is_stood_in_for_is_ours_at_any_port(*, address: str, ours: bool) -> None:
    """INVARIANT no-identity-inside: each cloud's, by IPv6 too."""
    own = OwnListeners(addresses=METADATA_ADDRESSES)
    assert [own.includes(ip_address(address), port) for port in (80, 8080)] == [ours, ours]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EACCES])
def test_an_address_that_cannot_be_looked_at_counts_as_ours(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT fail-closed: a sandbox that has used up the descriptors opens no way to this machine by that."""

    def broken(*_: object) -> None:
        raise OSError(error, "none")

    monkeypatch.setattr(
        own, "socket", SimpleNamespace(socket=broken, AF_INET=0, AF_INET6=0, SOCK_DGRAM=socket.SOCK_DGRAM)
    )
    assert is_local(ip_address("127.0.0.1"))


@pytest.mark.parametrize("address", ["fe80::1", "192.0.2.1", "2001:db8::1"])
def test_what_no_machine_here_has_is_not_local(address: str) -> None:
    """Nor is a link-local address that names no link."""
    assert not is_local(ip_address(address))

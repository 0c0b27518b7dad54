"""A SOCKS5 client, message by message."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rig.wire import Wire

type Named = bytes | IPv4Address | IPv6Address


def greeting(*methods: int) -> bytes:
    """The first message."""
    return bytes([5, len(methods), *methods])


def password(name: bytes, token: bytes) -> bytes:
    """Name and token."""
    return bytes([1, len(name)]) + name + bytes([len(token)]) + token


def request(host: Named, port: int, command: int = 1) -> bytes:
    """What the client asks for."""
    if isinstance(host, bytes):
        address = bytes([3, len(host)]) + host
    else:
        address = bytes([1 if isinstance(host, IPv4Address) else 4]) + host.packed
    return bytes([5, command, 0]) + address + struct.pack("!H", port)


def answer(wire: Wire) -> int:
    """The code of the answer to a request; -1 where the proxy hung up instead. It tells no address."""
    got = wire.exactly(10)
    if not got:
        return -1
    assert (len(got), got[0], got[2:]) == (10, 5, b"\0\1" + bytes(6)), got
    return got[1]


def ask(wire: Wire, host: Named, port: int, *, command: int = 1) -> int:
    """Greet without credentials and ask; the code of the answer."""
    wire.send(greeting(0))
    assert wire.exactly(2) == b"\5\0"
    wire.send(request(host, port, command))
    return answer(wire)

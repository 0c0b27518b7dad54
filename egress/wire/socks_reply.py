"""SOCKS5 as a client of a proxy speaks it (RFC 1928, and RFC 1929 for users), and what the proxy answers.

1. Each message is made from checked parts: a host is a canonical name or an address, lengths fit their byte.
2. Each answer is read to its exact length, so that what follows belongs to the tunnel. A version, a method, a reserved
   byte or a kind of address that the RFCs do not have here is a Reject.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Final

from egress.wire.connect_reply import Accepted, Answer, Declined, checked_port, destination
from egress.wire.outcome import NeedMore, malformed

NO_USER: Final = 0x00
USER: Final = 0x02
LONGEST: Final = 255
_VERSION: Final = 5
_USER_VERSION: Final = 1
_CONNECT: Final = 1
_NONE_ACCEPTED: Final = 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_HEADER: Final = 4
_PORT: Final = 2
_MORE = NeedMore()
# RFC 1928, section 6.
_REPLIES: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "kind of address not supported",
}
_NO_USER_ACCEPTED = Declined("the upstream proxy did not accept who we are", final=True)
_BAD_VERSION = malformed("it does not speak SOCKS5")


def greeting(*, user: bool) -> bytes:
    """The first message: which methods we have."""
    methods = bytes([NO_USER, USER] if user else [NO_USER])
    return bytes([_VERSION, len(methods)]) + methods


def parse_method(data: bytes, *, user: bool) -> Answer:
    """Which of our methods the proxy picked."""
    if data[:1] not in {b"", bytes([_VERSION])}:
        return _BAD_VERSION
    if len(data) < 2:  # noqa: PLR2004 - version and method
        return _MORE
    if data[1] == _NONE_ACCEPTED:
        return _NO_USER_ACCEPTED
    if data[1] == NO_USER or (user and data[1] == USER):
        return Accepted(2, data[1])
    return malformed("it picked a method of signing in that was not offered")


def sign_in(user: str, password: str) -> bytes:
    """Who we are, in UTF-8 (RFC 1929). Raises ValueError for what is too long, or empty."""
    parts = [text.encode() for text in (user, password)]
    if not all(0 < len(part) <= LONGEST for part in parts):
        raise ValueError(f"a user and a password for SOCKS5 have 1 to {LONGEST} bytes")
    return bytes([_USER_VERSION]) + b"".join(bytes([len(part)]) + part for part in parts)


def parse_signed_in(data: bytes) -> Answer:
    """Whether the proxy accepts who we are."""
    if data[:1] not in {b"", bytes([_USER_VERSION])}:
        return malformed("its answer to our sign-in is none")
    if len(data) < 2:  # noqa: PLR2004 - version and status
        return _MORE
    return Accepted(2) if data[1] == 0 else _NO_USER_ACCEPTED


def connect_message(host: str, port: int) -> bytes:
    """The request for a connection to `host`, a canonical name or an address. Raises ValueError for what is neither."""
    plain = destination(host)
    try:
        address = ip_address(plain)
    except ValueError:
        name = plain.encode()
        where = bytes([_NAME, len(name)]) + name
    else:
        where = bytes([_IPV4 if isinstance(address, IPv4Address) else _IPV6]) + address.packed
    return bytes([_VERSION, _CONNECT, 0]) + where + checked_port(port).to_bytes(_PORT, "big")


def parse_connected(data: bytes) -> Answer:
    """Whether the proxy connected; its answer ends with an address of its own, which counts for nothing."""
    if data[:1] not in {b"", bytes([_VERSION])}:
        return _BAD_VERSION
    if data[1:2] not in {b"", b"\0"}:
        # Whatever follows: a proxy that refuses may say no more, and closes.
        told = _REPLIES.get(data[1], f"code {data[1]}")
        return Declined(f"the upstream proxy refused the connection ({told})")
    if data[2:3] not in {b"", b"\0"}:
        return malformed("a byte of its answer that must be zero is not")
    if data[3:4] not in {b"", *map(bytes, ([_IPV4], [_NAME], [_IPV6]))}:
        return malformed("its answer holds a kind of address that does not exist")
    if len(data) <= _HEADER:
        return _MORE
    size = {_IPV4: 4, _IPV6: 16}.get(data[3], 1 + data[_HEADER])
    length = _HEADER + size + _PORT
    return Accepted(length) if len(data) >= length else _MORE

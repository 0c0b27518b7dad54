"""Reads what a client of SOCKS5 says before its own bytes: greeting, credentials and request (RFC 1928, RFC 1929).

1. Each message says how long it is: what follows it belongs to the next, and is not looked at.
2. What is reserved is zero, and no version is another's: bytes that two readers could take in two ways are a Reject.
3. A name is given as the bytes that came. What it means as a host is judged elsewhere, as for every host.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from egress.wire.outcome import NeedMore, Reject, malformed

# The longest that any of the three messages can be; a greeting, a request and a name's credentials are shorter.
LARGEST_MESSAGE = 513

SOCKS4 = 0x04
SOCKS5 = 0x05
_VERSION = b"\x05"
_CREDENTIALS_VERSION = b"\x01"
_PREFIX = 2  # a version, and how many bytes follow
_HEADER = 4  # of a request: version, command, reserved, type of address
_PORT = 2

_BAD_VERSION = malformed("the SOCKS message's version is another than before")
_NO_METHODS = malformed("the SOCKS greeting names no method of authentication")
_NO_NAME = malformed("the SOCKS credentials have an empty name or an empty token")
_NOT_RESERVED = malformed("a reserved byte of the SOCKS request is not zero")
_NO_HOST = malformed("the SOCKS request names no host")


class Method(IntEnum):
    """How a client may say who it is, as far as we know of any (RFC 1928, section 3)."""

    NONE = 0x00
    PASSWORD = 0x02
    UNACCEPTABLE = 0xFF


class Command(IntEnum):
    """What a client asks for (RFC 1928, section 4)."""

    CONNECT = 0x01
    BIND = 0x02
    UDP_ASSOCIATE = 0x03


class Reply(IntEnum):
    """What became of a request (RFC 1928, section 6)."""

    SUCCEEDED = 0x00
    FAILURE = 0x01
    NOT_ALLOWED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    REFUSED = 0x05
    COMMAND_NOT_SUPPORTED = 0x07
    ADDRESS_TYPE_NOT_SUPPORTED = 0x08


class _AddressType(IntEnum):
    IPV4 = 0x01
    NAME = 0x03
    IPV6 = 0x04


_SIZES: dict[int, int] = {_AddressType.IPV4: 4, _AddressType.IPV6: 16}


@dataclass(frozen=True, slots=True)
class Greeting:
    """The methods that a client offers, as numbers; `length` in bytes."""

    methods: frozenset[int]
    length: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """Name and token, as they were sent; neither is empty."""

    name: bytes
    token: bytes
    length: int


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """What a client asks for: `command` as sent, and a destination that is not judged yet.

    `host`: an address, or the bytes of a name, at least one. None: an address of a type that is not known, whose
    length nobody knows; the request then ends with that type. `port` is 0 to 65535, 0 where the host is None.
    """

    command: int
    host: IPv4Address | IPv6Address | bytes | None
    port: int
    length: int


def parse_greeting(data: bytes) -> Greeting | NeedMore | Reject:
    """Read the greeting that `data` begins with."""
    if data[:1] not in (b"", _VERSION):
        return _BAD_VERSION
    if len(data) < _PREFIX:
        return NeedMore()
    if not data[1]:
        return _NO_METHODS
    length = _PREFIX + data[1]
    return Greeting(frozenset(data[_PREFIX:length]), length) if len(data) >= length else NeedMore()


def parse_credentials(data: bytes) -> Credentials | NeedMore | Reject:
    """Read the name and the token that `data` begins with."""
    if data[:1] not in (b"", _CREDENTIALS_VERSION):
        return _BAD_VERSION
    if len(data) < _PREFIX:
        return NeedMore()
    at = _PREFIX + data[1]
    if data[1] and len(data) <= at:
        return NeedMore()
    if not data[1] or not data[at]:
        return _NO_NAME
    length = at + 1 + data[at]
    return Credentials(data[_PREFIX:at], data[at + 1 : length], length) if len(data) >= length else NeedMore()


def parse_socks_request(data: bytes) -> SocksRequest | NeedMore | Reject:
    """Read the request that `data` begins with."""
    if data[:1] not in (b"", _VERSION):
        return _BAD_VERSION
    if data[2:3] not in (b"", b"\x00"):
        return _NOT_RESERVED
    if len(data) < _HEADER:
        return NeedMore()
    command, kind = data[1], data[3]
    if kind not in _AddressType:
        return SocksRequest(command, None, 0, _HEADER)
    found = _host(data, kind)
    if not isinstance(found, tuple):
        return found
    host, end = found
    return SocksRequest(command, host, int.from_bytes(data[end - _PORT : end]), end)


def _host(data: bytes, kind: int) -> tuple[IPv4Address | IPv6Address | bytes, int] | NeedMore | Reject:
    """The host of a request, and where the port behind it ends, which is there."""
    named = kind == _AddressType.NAME
    start = _HEADER + 1 if named else _HEADER
    if len(data) < start:
        return NeedMore()
    size = data[_HEADER] if named else _SIZES[kind]
    if not size:
        return _NO_HOST
    end = start + size + _PORT
    if len(data) < end:
        return NeedMore()
    raw = data[start : start + size]
    if named:
        return raw, end
    return (IPv4Address(raw) if kind == _AddressType.IPV4 else IPv6Address(raw)), end


def method_answer(method: Method) -> bytes:
    """Which method the client is to use."""
    return bytes([SOCKS5, method])


def credentials_answer(*, known: bool) -> bytes:
    """Whether the credentials are somebody's; after a no the connection must end."""
    return _CREDENTIALS_VERSION + (b"\x00" if known else b"\x01")


def reply(code: Reply) -> bytes:
    """The answer to a request. The address that it has room for is not told: it would be ours."""
    return bytes([SOCKS5, code, 0, _AddressType.IPV4]) + bytes(6)


# SOCKS4 has an answer of its own: rejected or failed (0x5B).
REFUSED4 = b"\x00\x5b" + bytes(6)

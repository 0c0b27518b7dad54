"""Asks the network what it would let a sandbox do without the proxy: short questions, each to one address.

What is sent is the least that tells: a TCP handshake and one request for nothing, a datagram of QUIC that only asks for
versions, a question for the root's name servers. An answer by the proxy itself, which a gateway may have put in the
way, is told from one of the outside.
"""

from __future__ import annotations

import secrets
import socket
import struct
from enum import Enum, auto
from typing import Final

type Address = tuple[str, int]

TCP_SECONDS: Final = 2.0
_MARK: Final = b"x-egress-decision"
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: egress-doctor.invalid\r\nConnection: close\r\n\r\n"
# A long header (RFC 9000, section 17.2) with a version that exists to be refused (section 15), padded as must be.
_QUIC_SIZE: Final = 1_200
_QUIC_VERSION: Final = 0x1A2A3A4A
_ROOT_NS: Final = struct.pack("!BHH", 0, 2, 1)
_ANSWERS: Final = slice(6, 8)
_HEADER: Final = 12


class Reached(Enum):
    """What became of a question. `HELD`: it was answered, by the proxy or by what tells nothing of the outside."""

    NO = auto()
    HELD = auto()
    OUTSIDE = auto()


def by_tcp(address: Address, seconds: float = TCP_SECONDS) -> Reached:
    """Whether a TCP connection comes about, and whether it is the proxy that takes it."""
    try:
        with socket.create_connection(address, timeout=seconds) as sock:
            return Reached.HELD if _answers_as_proxy(sock, seconds) else Reached.OUTSIDE
    except OSError:
        return Reached.NO


def _answers_as_proxy(sock: socket.socket, seconds: float) -> bool:
    data = b""
    try:
        sock.settimeout(seconds)
        sock.sendall(_REQUEST)
        while len(data) < 64 * 1024 and b"\r\n\r\n" not in data and (part := sock.recv(4096)):
            data += part
    except OSError:
        pass
    head = data.partition(b"\r\n\r\n")[0].lower()
    return any(line.startswith(_MARK) for line in head.split(b"\r\n"))


def by_quic(address: Address, seconds: float = TCP_SECONDS) -> Reached:
    """Whether a QUIC server answers."""
    ids = bytes([8]) + secrets.token_bytes(8)
    packet = struct.pack("!BI", 0xC0 | secrets.randbelow(64), _QUIC_VERSION) + ids + ids
    answer = _datagram(address, packet.ljust(_QUIC_SIZE, b"\0"), seconds)
    # Version Negotiation: a long header with version 0 (RFC 9000, section 17.2.1).
    return Reached.OUTSIDE if answer is not None and answer[1:5] == b"\0\0\0\0" else Reached.NO


def by_dns(address: Address, seconds: float = TCP_SECONDS) -> Reached:
    """Whether a name server tells of the Internet: it knows the root's name servers. The proxy's never does."""
    number = secrets.token_bytes(2)
    answer = _datagram(address, number + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + _ROOT_NS, seconds)
    if answer is None or len(answer) < _HEADER or answer[:2] != number:
        return Reached.NO
    return Reached.OUTSIDE if answer[_ANSWERS] != b"\0\0" else Reached.HELD


def _datagram(address: Address, data: bytes, seconds: float) -> bytes | None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(seconds)
            # Connected, so that nobody else's answer is taken, and an unreachable port is told at once.
            sock.connect(address)
            sock.send(data)
            return sock.recv(4096)
    except OSError:
        return None

"""IP packets as a test counts them: the protocol, and where they were going."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address

_TOWARDS_US = ("198.51.100.1", "2001:db8:64::1", "10.66.", "fd66:", "fe80:")
_NAMES = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_ICMP: "icmp", 58: "icmp6"}


@dataclass(frozen=True, slots=True)
class Packet:
    """`port` is 0 where the protocol has none; `opens`: the first of a TCP connection."""

    protocol: str
    host: str
    port: int
    opens: bool = False


def sent(packets: list[bytes]) -> list[Packet]:
    """Those that go to the internet; what it answers is left out."""
    return [packet for packet in map(_read, packets) if not packet.host.startswith(_TOWARDS_US)]


def _read(packet: bytes) -> Packet:
    if packet[0] >> 4 == 4:
        number, host, rest = packet[9], packet[16:20], packet[(packet[0] & 15) * 4 :]
    else:
        number, host, rest = packet[6], packet[24:40], packet[40:]
    name = _NAMES.get(number, str(number))
    port = int.from_bytes(rest[2:4], "big") if name in {"tcp", "udp"} else 0
    return Packet(name, str(ip_address(host)), port, opens=name == "tcp" and rest[13] & 0x12 == 0x02)

"""The packet tap: every TCP SYN, UDP datagram and other packet of the namespace, also to ports where nobody listens."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import select
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.namespace import daemon

if TYPE_CHECKING:
    from harness.namespace import Namespace

_ETH_ALL = 3
_IPV4, _IPV6 = 0x0800, 0x86DD
_SYN, _ACK = 0x02, 0x10
_OUTGOING = 4
_SO_ATTACH_FILTER = 26

# Classic BPF over the IP header: TCP only if it is a SYN, so that bulk transfers do not drown the tap; all else passes.
_FILTER = (
    (0x30, 0, 0, 0),  #  0: first byte
    (0x54, 0, 0, 0xF0),  #  1: its version
    (0x15, 0, 6, 0x40),  #  2: IPv4, or to 9
    (0x30, 0, 0, 9),  #  3: protocol
    (0x15, 0, 9, socket.IPPROTO_TCP),  #  4: TCP, or accept at 14
    (0xB1, 0, 0, 0),  #  5: x = header length
    (0x50, 0, 0, 13),  #  6: TCP flags
    (0x54, 0, 0, _SYN | _ACK),  #  7
    (0x15, 5, 6, _SYN),  #  8: accept at 14, or drop at 15
    (0x30, 0, 0, 6),  #  9: IPv6 next header
    (0x15, 0, 3, socket.IPPROTO_TCP),  # 10: TCP, or accept at 14
    (0x30, 0, 0, 53),  # 11: TCP flags
    (0x54, 0, 0, _SYN | _ACK),  # 12
    (0x15, 0, 1, _SYN),  # 13: accept, or drop at 15
    (0x06, 0, 0, 0xFFFF),  # 14: accept
    (0x06, 0, 0, 0),  # 15: drop
)


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that opens something: a SYN (`tcp`), a datagram (`udp`), or another IP protocol by number."""

    kind: str
    source: str
    target: str
    port: int
    data: bytes


def parse(frame: bytes, ethertype: int) -> Packet | None:
    """The packet in an IP frame, or None for what opens nothing (TCP that is not a SYN)."""
    if ethertype == _IPV4:
        start, protocol = (frame[0] & 15) * 4, frame[9]
        source, target = frame[12:16], frame[16:20]
    elif ethertype == _IPV6:
        start, protocol = 40, frame[6]
        source, target = frame[8:24], frame[24:40]
    else:
        return None
    names = str(ipaddress.ip_address(source)), str(ipaddress.ip_address(target))
    body = frame[start:]
    if protocol == socket.IPPROTO_TCP:
        if body[13] & (_SYN | _ACK) != _SYN:
            return None
        return Packet("tcp", *names, struct.unpack(">H", body[2:4])[0], body[(body[12] >> 4) * 4 :])
    if protocol == socket.IPPROTO_UDP:
        return Packet("udp", *names, struct.unpack(">H", body[2:4])[0], body[8:])
    return Packet(str(protocol), *names, 0, body)


class WireTap:
    """Records until `close`. `packets` only grows; take its length as a mark."""

    def __init__(self, namespace: Namespace) -> None:
        self.packets: list[Packet] = []
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _FILTER))
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(program))
        )
        self._stopped = threading.Event()
        self._thread = daemon(self._listen, "wiretap")

    def _listen(self) -> None:
        while not self._stopped.is_set():
            ready, _, _ = select.select([self._socket], [], [], 0.2)
            if not ready:
                continue
            frame, (_, ethertype, kind, *_) = self._socket.recvfrom(2048)
            if kind == _OUTGOING:  # loopback shows each packet twice
                continue
            with contextlib.suppress(IndexError, struct.error):
                if packet := parse(frame, ethertype):
                    self.packets.append(packet)

    def close(self) -> None:
        """Stop recording."""
        self._stopped.set()
        self._thread.join()
        self._socket.close()

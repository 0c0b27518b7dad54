"""The roads out that a sandbox may try, and how each of them ends: an answer, an error at once, or silence."""

from __future__ import annotations

import errno
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rig.netns import Machine

# Far more than a refusal takes on a busy machine, and far less than a client's own patience.
PATIENCE = 5.0
SILENCE = "silence"


def family(host: str) -> int:
    """The family of an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _at(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """A socket's address; a link-local host ends in `%` and the number of its interface there."""
    plain, _, scope = host.partition("%")
    return (plain, port, 0, int(scope)) if scope else (host, port)


def tcp(machine: Machine, host: str, port: int, *, source: str = "", patience: float = PATIENCE) -> str:
    """Connect and read: what came, or how it ended."""
    with machine.socket(family(host)) as sock:
        return _ended(sock, lambda: sock.connect(_at(host, port)), source, patience)


def udp(
    machine: Machine,
    host: str,
    port: int,
    *,
    source: str = "",
    said: bytes = b"question",
    patience: float = PATIENCE,
) -> str:
    """Send a datagram and wait: what came, or how it ended."""
    with machine.socket(family(host), socket.SOCK_DGRAM) as sock:

        def ask() -> None:
            sock.connect(_at(host, port))
            sock.send(said)

        return _ended(sock, ask, source, patience)


def raw(machine: Machine, host: str, protocol: int, payload: bytes, *, patience: float = PATIENCE) -> str:
    """Send a packet of a protocol, and say which error came back for it."""
    with machine.socket(family(host), socket.SOCK_RAW, protocol) as sock:
        level, option = (socket.SOL_IP, 11) if sock.family == socket.AF_INET else (socket.IPPROTO_IPV6, 25)
        sock.setsockopt(level, option, 1)

        def send() -> None:
            sock.connect((host, 0))
            sock.send(payload)

        return _ended(sock, send, "", patience)


def echo_request(host: str) -> bytes:
    """A ping; the kernel sums up ICMPv6 itself."""
    kind = 128 if ":" in host else 8
    total = (kind << 8) + 1 + 1
    return struct.pack(">BBHHH", kind, 0, 0 if ":" in host else 0xFFFF - total, 1, 1)


def _ended(sock: socket.socket, send: object, source: str, patience: float = PATIENCE) -> str:
    assert callable(send)
    sock.settimeout(patience)
    if source:
        sock.bind((source, 0))
    try:
        send()
        return sock.recv(2048).decode(errors="replace") or "end"
    except TimeoutError:
        return SILENCE
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def took(work: object) -> tuple[object, float]:
    """What work gives, and its seconds."""
    assert callable(work)
    began = time.monotonic()
    return work(), time.monotonic() - began

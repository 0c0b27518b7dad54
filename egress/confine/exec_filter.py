"""A seccomp filter against the ways out that no network namespace closes.

1. sockets    of other families than local, IPv4, IPv6 and netlink are refused: a virtual machine's AF_VSOCK and
              Bluetooth reach their other end from any network namespace
2. io_uring   is refused as on a kernel without it: it makes sockets without a system call that a filter sees
3. keyrings   likewise: the kernel keeps keys by user, not by namespace
4. others     system calls of another machine's kind (32-bit on 64-bit) are refused whole: their numbers mean others

A classic BPF program: one word for what to do, two places to jump to, a value (linux/filter.h, seccomp(2)).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000

# Where seccomp_data has them; of the first argument, the half that a socket's family stands in.
_NUMBER: Final = 0
_MACHINE: Final = 4
_FIRST_ARGUMENT: Final = 16

_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
# On x86-64, system calls of the x32 kind have this bit.
_X32_BIT: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class _Machine:
    audit: int
    socket: int
    socketpair: int
    missing: tuple[int, ...]


# io_uring_setup, add_key, request_key, keyctl.
_MACHINES: Final = {
    "x86_64": _Machine(0xC000003E, 41, 53, (425, 248, 249, 250)),
    "aarch64": _Machine(0xC00000B7, 198, 199, (425, 217, 218, 219)),
}


def network_filter(machine: str | None = None) -> bytes | None:
    """The filter for a machine (None: this one), as bytes of `sock_filter`; None for a machine it does not know."""
    known = _MACHINES.get(machine or os.uname().machine)
    return None if known is None else b"".join(_program(known))


def _program(machine: _Machine) -> list[bytes]:
    refuse_family = _step(_RETURN, _ERRNO | errno.EAFNOSUPPORT)
    missing = _step(_RETURN, _ERRNO | errno.ENOSYS)
    allow = _step(_RETURN, _ALLOW)
    without = [_step(_EQUAL, number, len(machine.missing) - 1 - at, 0) for at, number in enumerate(machine.missing)]
    families = [_step(_EQUAL, family, len(_FAMILIES) - place, 0) for place, family in enumerate(_FAMILIES)]
    return [
        _step(_LOAD, _MACHINE),
        _step(_EQUAL, machine.audit, 1, 0),
        missing,
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32_BIT, len(without), 0),
        *without[:-1],
        _step(_EQUAL, machine.missing[-1], 0, 1),
        missing,
        _step(_EQUAL, machine.socket, 2, 0),
        _step(_EQUAL, machine.socketpair, 1, 0),
        allow,
        _step(_LOAD, _FIRST_ARGUMENT),
        *families,
        refuse_family,
        allow,
    ]


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)

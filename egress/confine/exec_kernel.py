"""The system calls of confinement that Python has no function for: mounts, capabilities, prctl, seccomp, interfaces.

Thin: one call each, raising OSError with what was tried. Numbers are those of the kernel's headers, the same on every
machine that `exec_filter` knows.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

CAP_SYS_ADMIN: Final = 21

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
# SECBIT_NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each locked: uid 0 is a user like any other.
_SECUREBITS: Final = 0xEF
_CAP_VERSION_3: Final = 0x20080522

# statvfs(3) and mount(2) have the same bits for these, and other ones for `relatime`.
_SAME_BITS: Final = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048
_ST_RELATIME: Final = 4096
_MS_RELATIME: Final = 1 << 21

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount, bind, move or change a mount, by the system call of this name."""
    arguments = [os.fsencode(text) if text else None for text in (source, str(target), kind)]
    found = _LIBC.mount(*arguments, ctypes.c_ulong(flags), options.encode() if options else None)
    if found != 0:
        raise _error(f"mount {kind or 'bind'} on {target}")


def make_read_only(target: Path | str) -> None:
    """Make the mount at `target` read-only. What else it denies has to be repeated, or the kernel refuses."""
    stated = os.statvfs(target).f_flag
    kept = stated & _SAME_BITS | (_MS_RELATIME if stated & _ST_RELATIME else 0)
    mount("", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def loopback_up() -> None:
    """Bring up the loopback interface of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, name), 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def end_with_parent(parent: int) -> None:
    """Be killed when the parent, whose id this was before the fork, ends; at once if it has."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def hide_memory() -> None:
    """No core dump, no tracing, and `/proc/PID` belongs to root: it shows the environment from before the scrubbing."""
    _prctl(_PR_SET_DUMPABLE, 0)


def show_name(name: str) -> None:
    """What `ps` and `top` show; the kernel keeps 15 characters."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode("ascii")))


def has_capability(number: int) -> bool:
    """Whether this process has a capability in effect."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def lock_privileges() -> None:
    """From here on no program that is executed gains anything: no bounding set, no ambient set, no setuid, no uid 0."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(_PR_SET_SECUREBITS, _SECUREBITS)
    number = 0
    # The kernel refuses the first number that is no capability.
    while _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) == 0:
        number += 1
    if number <= CAP_SYS_ADMIN:
        raise _error("drop the capability bounding set")


def drop_capabilities() -> None:
    """Give up every capability of this process."""
    header = struct.pack("Ii", _CAP_VERSION_3, 0)
    if _LIBC.capset(header, bytes(24)) != 0:
        raise _error("drop capabilities")


def set_filter(program: bytes) -> None:
    """Install a seccomp filter for this process and everything that it becomes."""
    buffer = ctypes.create_string_buffer(program, len(program))
    size = len(program) // 8
    header = struct.pack("HxxxxxxP", size, ctypes.addressof(buffer))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header))


def _prctl(option: int, first: object, second: object = 0) -> None:
    arguments = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in (first, second, 0, 0)]
    if _LIBC.prctl(option, *arguments) != 0:
        raise _error(f"prctl {option}")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")

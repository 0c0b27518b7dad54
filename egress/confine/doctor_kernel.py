"""What the kernel of this machine has: the firewall rules that hold sandboxes, and what `egress exec` is made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from egress.confine.doctor import Check, Finding, note, ok, problem, skipped, warning
from egress.confine.doctor_sandbox import SECCOMP
from egress.confine.exec_filter import network_filter
from egress.confine.exec_namespaces import privileged

_SECONDS: Final = 4.0
_EXEC_FIX: Final = "docs/guides/doctor.md#exec"
_TABLE: Final = ("inet", "egress")
# In a process of its own: a namespace, once entered, is not left.
_UNSHARE: Final = "import os; os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)"
_NAMESPACES_FIX: Final = "docs/guides/doctor.md#user-namespaces"
# What `egress exec` makes, and a mount in it, which containers forbid where they allow namespaces. Flags: mount(2).
_CONFINE: Final = """
import ctypes, os, sys
kinds = os.CLONE_NEWNET | os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWIPC | os.CLONE_NEWUTS
uid, gid = os.geteuid(), os.getegid()
os.unshare(kinds if sys.argv[1] == "root" else kinds | os.CLONE_NEWUSER)
if sys.argv[1] != "root":
    for name, text in ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
libc = ctypes.CDLL(None, use_errno=True)
for source, place, kind, flags in ((None, b"/", None, 16384 | 1 << 18), (b"tmpfs", b"/tmp", b"tmpfs", 2 | 4)):
    if libc.mount(source, place, kind, ctypes.c_ulong(flags), None):
        sys.exit(f"mount on {place.decode()}: {os.strerror(ctypes.get_errno())}")
"""


def checks(*, gateway: bool) -> list[Check]:
    """All of them. `gateway`: the rules of a gateway have to be there."""
    return [
        Check("network-rules", lambda: network_rules(gateway=gateway)),
        Check("user-namespaces", user_namespaces),
        Check("exec", confining),
    ]


def network_rules(*, gateway: bool, program: str | None = None, user: int | None = None) -> Finding:
    """Whether this network namespace has the table `inet egress`, with rules in it. `user` None: this process's."""
    nft = program or shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    up = "`egress gateway` puts them up"
    if nft is None:
        return (
            problem("nft is not installed, so there are no rules", up) if gateway else skipped("nft is not installed")
        )
    if (os.geteuid() if user is None else user) != 0:
        return skipped("only root can list the rules", "run it as root")
    done = subprocess.run(  # noqa: S603 - the system's own program
        [nft, "list", "table", *_TABLE], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        told = "there is no table `inet egress` in this network namespace"
        return problem(told, up) if gateway else note(f"{told}; what holds sandboxes is elsewhere, if anything", up)
    if not _holds(done.stdout):
        return problem("the table `inet egress` drops and rejects nothing any more: somebody changed it", up)
    return ok("the table `inet egress` is there, and refuses what is not for the proxy")


def _holds(rules: str) -> bool:
    """Whether something is refused by it; what exactly, its maker knows."""
    lines = [line.split("#")[0].split() for line in rules.splitlines()]
    return any("drop" in words or "reject" in words or "drop;" in words for words in lines)


def user_namespaces(program: str = sys.executable) -> Finding:
    """Whether a user without privileges can make the namespaces that `egress exec` runs a command in."""
    done = subprocess.run(  # noqa: S603 - this Python
        [program, "-I", "-c", _UNSHARE], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        told = said[-1] if said else f"it ended with {done.returncode}"
        return warning(f"user and network namespaces cannot be made here: {told}", _NAMESPACES_FIX)
    return ok("user and network namespaces can be made here")


def confining(program: str = sys.executable, machine: str | None = None) -> Finding:
    """Whether `egress exec` could confine a command here: its namespaces, mounts in them, and its filter."""
    if network_filter(machine) is None:
        told = f"`egress exec` does not know the system calls of {machine or os.uname().machine}"
        return warning(told, "use x86_64 or aarch64")
    if SECCOMP not in Path("/proc/self/status").read_text(encoding="utf-8"):
        return warning("this kernel has no seccomp filters, which `egress exec` needs", _EXEC_FIX)
    who = "root" if privileged() else "user"
    done = subprocess.run(  # noqa: S603 - this Python
        [program, "-I", "-c", _CONFINE, who], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        told = said[-1] if said else f"it ended with {done.returncode}"
        return warning(f"`egress exec` cannot confine a command here: {told}", _EXEC_FIX)
    return ok("`egress exec` can confine a command here")

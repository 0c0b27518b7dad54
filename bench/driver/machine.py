"""The machine that the figures are from: a network of its own for the run, open files, and what it is called.

As root the run has namespaces of its own: a network with nothing but loopback, and a hosts file with the two names that
the load asks for. They end with the process. Without root the machine's loopback serves, and contenders that can only
be told of names by a hosts file are left out.
"""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

ALLOWED: Final = "allowed.test"
DENIED: Final = "denied.test"
# The denied host answers just as the allowed one: what refuses it is the policy, never a name that does not resolve.
HOSTS: Final = f"127.0.0.1 localhost\n127.0.0.1 {ALLOWED}\n127.0.0.1 {DENIED}\n"

_FILES: Final = 65_536
_SET_FLAGS: Final = 0x8914
_UP_AND_RUNNING: Final = 0x1 | 0x40


def isolate(folder: Path) -> bool:
    """Move this process, and all that it starts from now on, into namespaces of their own; False without root."""
    if os.geteuid() != 0:
        return False
    hosts = folder / "hosts"
    hosts.write_text(HOSTS)
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    for command in (["mount", "--make-rprivate", "/"], ["mount", "--bind", str(hosts), "/etc/hosts"]):
        subprocess.run(command, check=True)  # noqa: S603 - its own words
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))
    return True


def raise_open_files() -> None:
    """Let the run, and what it starts, open as many files as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def open_files() -> int:
    """How many files a process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_tunnels() -> int:
    """How many tunnels one process can hold: two sockets for each, and some files of its own."""
    return (open_files() - 500) // 2


def proxy_core() -> str | None:
    """The core that every proxy is held to, with all its processes; None on a machine with one core."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[-1]) if len(cores) > 1 else None


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def description() -> dict[str, str]:
    """What the figures depend on, in words."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": f"{cpu.partition(':')[2].strip() or platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{system}, Linux {platform.release()}",
        "Python": platform.python_version(),
    }

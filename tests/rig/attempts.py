"""Run inside, by a confined command: tries every way out and every thing that must not be there; prints what happened.

One JSON object: the name of each attempt, and `open` if it succeeded, else why not. Facts stand beside them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import http.client
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000
PTRACE_ATTACH, MNT_DETACH = 16, 2


def checked(result: int) -> None:
    """Raise the error of a C function."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def connects(family: int, where: object, kind: int = socket.SOCK_STREAM) -> None:
    """Open a connection, or send a datagram."""
    with socket.socket(family, kind) as sock:
        sock.settimeout(5)
        sock.connect(where)
        sock.send(b"x")


def nested(action: Callable[[], None]) -> None:
    """Do it as root of a user and mount namespace of one's own."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        number = 0
        try:
            checked(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS))
            action()
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os.write(write, number.to_bytes(4, "big"))
            os._exit(0)
    os.waitpid(pid, 0)
    number = int.from_bytes(os.read(read, 4), "big")
    if number:
        raise OSError(number, os.strerror(number))


def lists_something(path: str) -> None:
    """A folder that has entries."""
    if not os.listdir(path):
        raise OSError(errno.ENOENT, "empty")


def reads_something(path: str) -> None:
    """A file that has content."""
    if not Path(path).read_bytes():
        raise OSError(errno.ENODATA, "empty")


def has(name: str) -> None:
    """A variable that is there."""
    if name not in os.environ:
        raise OSError(errno.ENOENT, "not set")


def main() -> None:
    """Try."""
    told = json.loads(sys.argv[1])
    home, state, policy = told["home"], told["state"], told["policy"]
    own = f"{home}/work/own"
    attempts: dict[str, Callable[[], object]] = {
        "tcp": lambda: connects(socket.AF_INET, ("1.1.1.1", 443)),
        "tcp6": lambda: connects(socket.AF_INET6, ("2606:4700:4700::1111", 443)),
        "quic": lambda: connects(socket.AF_INET, ("1.1.1.1", 443), socket.SOCK_DGRAM),
        "dns": lambda: connects(socket.AF_INET, ("8.8.8.8", 53), socket.SOCK_DGRAM),
        "dns6": lambda: connects(socket.AF_INET6, ("2001:4860:4860::8888", 53), socket.SOCK_DGRAM),
        "metadata": lambda: connects(socket.AF_INET, ("169.254.169.254", 80)),
        "resolving": lambda: socket.getaddrinfo("example.com", 80),
        "loopback of the machine": lambda: connects(socket.AF_INET, ("127.0.0.1", told["port"])),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "vsock": lambda: socket.socket(40, socket.SOCK_STREAM).close(),
        "abstract socket": lambda: connects(socket.AF_UNIX, f"\0{told['abstract']}"),
        "socket in home": lambda: connects(socket.AF_UNIX, f"{home}/agent.sock"),
        "connection of ssh": lambda: connects(socket.AF_UNIX, f"{home}/.ssh/shared"),
        "socket in tmp": lambda: connects(socket.AF_UNIX, told["tmp_socket"]),
        "control socket": lambda: connects(socket.AF_UNIX, f"{state}/control.sock"),
        "state folder": lambda: lists_something(state),
        "key of the CA": lambda: reads_something(f"{state}/ca/ca-key.pem"),
        "run of the machine": lambda: lists_something("/run/netns"),
        "secret file": lambda: reads_something(f"{home}/policies/token"),
        "secret variable": lambda: has("UPSTREAM_TOKEN"),
        "agent variable": lambda: has("SSH_AUTH_SOCK"),
        "store key variable": lambda: has("EGRESS_SECRETS_KEY"),
        "write policy": lambda: Path(policy).open("a").close(),
        "replace policy": lambda: os.replace(own, policy),
        "remove policy": lambda: os.unlink(policy),
        "rename folder of policy": lambda: os.rename(os.path.dirname(policy), f"{home}/other"),
        "rename home": lambda: os.rename(home, f"{home}2"),
        "rename folder of state": lambda: os.rename(os.path.dirname(state), f"{home}/other"),
        "write state": lambda: Path(f"{state}/x").touch(),
        "write trust": lambda: Path("/run/egress/x").touch(),
        "unmount state": lambda: checked(LIBC.umount2(state.encode(), MNT_DETACH)),
        "unmount as root of a namespace": lambda: nested(lambda: checked(LIBC.umount2(state.encode(), MNT_DETACH))),
        "unmount tmp as root of a namespace": lambda: nested(lambda: checked(LIBC.umount2(b"/tmp", MNT_DETACH))),
        "uncover by a plain bind": lambda: nested(
            lambda: checked(LIBC.mount(home.encode(), b"/tmp", None, 4096, None)),
        ),
        "write policy as root of a namespace": lambda: nested(
            lambda: (
                checked(LIBC.mount(None, policy.encode(), None, 32 | 4096, None)),
                Path(policy).open("a").close(),
            )
        ),
        "kill the proxy": lambda: os.kill(told["outside"], 0),
        "trace outside": lambda: checked(LIBC.ptrace(PTRACE_ATTACH, told["outside"], 0, 0)),
        "trace init": lambda: checked(LIBC.ptrace(PTRACE_ATTACH, 1, 0, 0)),
        "environment of init": lambda: reads_something("/proc/1/environ"),
        "root of init": lambda: os.listdir("/proc/1/root"),
        "namespace of init": lambda: checked(LIBC.setns(os.open("/proc/1/ns/net", os.O_RDONLY), 0)),
        "process outside": lambda: os.listdir(f"/proc/{told['outside']}"),
        "keyring": lambda: checked(LIBC.syscall({"x86_64": 250, "aarch64": 219}[os.uname().machine], 0, -3, 1)),
        "io_uring": lambda: checked(LIBC.syscall(425, 1, ctypes.create_string_buffer(120))),
        "change user": lambda: os.setuid(0),
        "change groups": lambda: os.setgroups([0]),
    }
    Path(own).write_text("version: 1\ndefault: allow\n")
    found: dict[str, object] = {"descriptors": [number for number in range(3, 1024) if is_open(number)]}
    begun = time.monotonic()
    for name, attempt in attempts.items():
        try:
            attempt()
            found[name] = "open"
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, str(error))
    found["seconds"] = time.monotonic() - begun
    found["kill init"] = survives()
    found["system"] = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if steers(line)]
    found["uid"] = os.getuid()
    found["processes"] = len([name for name in os.listdir("/proc") if name.isdecimal()])
    found["status"] = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found["own key"] = os.environ.get("MODEL_KEY", "")
    found["allowed"], found["denied"] = (through(told["port"], host) for host in ("origin.test", "other.test"))
    found["inode of policy"] = Path(policy).read_text()
    sys.stdout.write(json.dumps(found))


def survives() -> str:
    """What becomes of number 1 when it is told to end."""
    with contextlib.suppress(OSError):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGHUP, signal.SIGINT):
            os.kill(1, number)
    return "survives"


def steers(line: str) -> bool:
    """Whether a line of mountinfo is of a mount by which the kernel can be steered, and written to."""
    point, options = line.split(" ")[4:6]
    return f"{point}/".startswith("/sys/") and "ro" not in options.split(",")


def is_open(number: int) -> bool:
    """Whether a descriptor is."""
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def through(port: int, host: str) -> int:
    """The status of a request by the proxy."""
    host_of_proxy, _, port_of_proxy = os.environ["http_proxy"].removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host_of_proxy, int(port_of_proxy), timeout=20)
    connection.request("GET", f"http://{host}:{port}/")
    return connection.getresponse().status


if __name__ == "__main__":
    main()

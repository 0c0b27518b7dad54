"""A network namespace in which every address is local: public addresses without a classifier being overridden.

The namespace has a loopback device and nothing else, and a route that makes all of IPv4 and IPv6 local (AnyIP). So a
connection to any address at all stays inside, and is seen; nothing can leave the machine.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

PREFIX = "egress-e2e"
SETTINGS = Path("/etc/netns")
_IP_FREEBIND = 15
_COUNT = itertools.count()

needs = "end-to-end tests need root and iproute2: run as root, after `python3 tests/tools/system_packages.py`"


class HarnessError(RuntimeError):
    """The machine cannot run the end-to-end tests; the message is the one line to show."""


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise HarnessError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}; {needs}")
    return done.stdout


def remove_stale() -> None:
    """Delete what runs that were killed left behind: a namespace's name carries the process id of its run."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not Path(f"/proc/{name.split('-')[2]}").exists():
            _delete(name)


def _delete(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    shutil.rmtree(SETTINGS / name, ignore_errors=True)


class Namespace:
    """One namespace, torn down by `close`. Sockets made by it belong to it, whichever thread uses them later."""

    def __init__(self, nameserver: str) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise HarnessError(needs)
        remove_stale()
        self.name = f"{PREFIX}-{os.getpid()}-{next(_COUNT)}"
        self._inside = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.name)
        _ip("netns", "add", self.name)
        try:
            self._furnish(nameserver)
            self._inside.submit(self._move).result()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _furnish(self, nameserver: str) -> None:
        _ip("-n", self.name, "link", "set", "lo", "up")
        # getaddrinfo with AI_ADDRCONFIG asks nothing on a machine that has loopback addresses only.
        _ip("-n", self.name, "address", "add", "10.77.0.1/32", "dev", "lo")
        _ip("-n", self.name, "address", "add", "fd77::1/128", "dev", "lo", "nodad")
        _ip("-n", self.name, "route", "add", "local", "0.0.0.0/0", "dev", "lo", "src", "10.77.0.1")
        _ip("-n", self.name, "-6", "route", "add", "local", "::/0", "dev", "lo", "src", "fd77::1")
        self.write_settings(nameserver)

    def ip(self, *words: str) -> None:
        """Run `ip` on what is in the namespace."""
        _ip("-n", self.name, *words)

    def set(self, name: str, value: int) -> None:
        """Set one of its `net.` settings."""
        self.call(lambda: Path("/proc/sys/net", *name.split(".")).write_text(str(value)))

    def write_settings(self, nameserver: str) -> None:
        """What programs in it find in /etc."""
        settings = SETTINGS / self.name
        settings.mkdir(parents=True)
        # The search list is bait: a resolver that uses it asks for names that no test may see asked.
        settings.joinpath("resolv.conf").write_text(f"nameserver {nameserver}\nsearch corp.internal\n")
        settings.joinpath("hosts").write_text("127.0.0.1 localhost\n")
        settings.joinpath("nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")

    def _move(self) -> None:
        with Path(f"/run/netns/{self.name}").open("rb") as handle:
            os.setns(handle.fileno(), os.CLONE_NEWNET)

    def call[Result](self, work: Callable[[], Result]) -> Result:
        """Run `work` on the thread that lives in the namespace."""
        return self._inside.submit(work).result()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A socket of the namespace."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def listener(self, address: str, port: int) -> socket.socket:
        """A TCP listener in the namespace; IPv6 ones take no IPv4."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        made.bind((address, port))
        made.listen(1024)
        return made

    def connect(self, target: tuple[str, int], *, source: str = "", timeout: float = 5.0) -> socket.socket:
        """A connected TCP socket; `source` is any address at all."""
        made = self.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET)
        try:
            made.settimeout(timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                made.bind((source, 0))
            made.connect(target)
        except BaseException:
            made.close()
            raise
        return made

    def popen(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a program in the namespace, under its resolv.conf. The process id is the program's own."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace to its end; what it printed is text."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            check=False,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    def close(self) -> None:
        """Delete the namespace. Whatever still runs in it keeps it alive in the kernel, unreachable by name."""
        self._inside.shutdown()
        _delete(self.name)


def daemon(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not hold the process."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread

"""The soak's network: sandboxes on a bridge of the gateway, and an internet that answers for every address.

    sandbox N   eth0 10.80.0.(10+N), fd80::(10+N)  --\
    sandbox 1   eth0 10.80.0.11, fd80::11          --- br0 10.80.0.1, fd80::1   gateway   wan0 -- eth0   internet

Nothing forwards: the proxy dials itself. All of it is gone with the namespaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

PREFIX: Final = "egress-soak"
GATEWAY: Final = ("10.80.0.1", "fd80::1")
_WAN: Final = (("198.51.100.2", "198.51.100.1"), ("2001:db8:64::2", "2001:db8:64::1"))
# Seconds that the kernel remembers what has ended, so that what is left at the end is told from what waits.
_FORGOTTEN: Final = {"tcp_timeout_time_wait": 5, "tcp_timeout_close": 2, "udp_timeout": 5, "udp_timeout_stream": 5}


class NetworkError(RuntimeError):
    """What could not be set up, and what it needs."""


def ip(*words: str) -> str:
    """Run `ip`."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)  # noqa: S603, S607 - iproute2
    if done.returncode:
        raise NetworkError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


class Space:
    """One namespace. `socket` makes sockets that belong to it, on whichever thread they are used."""

    def __init__(self, role: str) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-{role}"
        ip("netns", "add", self.name)
        self._handle = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        ip("-n", self.name, "link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it, on this thread; nothing may be awaited meanwhile."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.setns(self._handle, os.CLONE_NEWNET)
            yield
        finally:
            os.setns(home, os.CLONE_NEWNET)
            os.close(home)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this namespace, that does not block."""
        with self.entered():
            return socket.socket(family, kind | socket.SOCK_NONBLOCK)

    def set(self, name: str, value: int) -> None:
        """Set one of its `net.` settings."""
        with self.entered():
            Path("/proc/sys/net", *name.split(".")).write_text(str(value))

    def read(self, name: str) -> int:
        """One of its `net.` values."""
        with self.entered():
            return int(Path("/proc/sys/net", *name.split(".")).read_text())

    def command(self, *words: str) -> list[str]:
        """What runs a program there."""
        return ["ip", "netns", "exec", self.name, *words]

    def close(self) -> None:
        """Delete it."""
        os.close(self._handle)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)  # noqa: S603, S607


class Network:
    """The spaces of the picture above."""

    def __init__(self, sandboxes: int) -> None:
        if os.geteuid() or not all(map(shutil.which, ("ip", "nft"))):
            raise NetworkError("the soak needs root, iproute2 and nftables")
        _remove_stale()
        self._stack = contextlib.ExitStack()
        try:
            self._build(sandboxes)
        except BaseException:
            self._stack.close()
            raise

    def _space(self, role: str) -> Space:
        made = Space(role)
        self._stack.callback(made.close)
        return made

    def _build(self, sandboxes: int) -> None:
        self.gateway, self.internet = self._space("gateway"), self._space("internet")
        for scope in ("all", "default"):
            self.gateway.set(f"ipv6.conf.{scope}.accept_dad", 0)
        inside = self.gateway.name
        ip("-n", inside, "link", "add", "br0", "type", "bridge")
        ip("-n", inside, "link", "set", "br0", "up")
        ip("-n", inside, "address", "add", f"{GATEWAY[0]}/16", "dev", "br0")
        ip("-n", inside, "address", "add", f"{GATEWAY[1]}/64", "dev", "br0", "nodad")
        self._wan()
        self.sandboxes = [self._sandbox(number) for number in range(1, sandboxes + 1)]

    def _wan(self) -> None:
        here, there = self.gateway.name, self.internet.name
        ip("-n", here, "link", "add", "wan0", "type", "veth", "peer", "name", "eth0", "netns", there)
        for space, device, at in ((here, "wan0", 0), (there, "eth0", 1)):
            ip("-n", space, "address", "add", f"{_WAN[0][at]}/24", "dev", device)
            ip("-n", space, "address", "add", f"{_WAN[1][at]}/64", "dev", device, "nodad")
            ip("-n", space, "link", "set", device, "up")
        for family, pair, everything in (("-4", _WAN[0], "0.0.0.0/0"), ("-6", _WAN[1], "::/0")):
            ip("-n", here, family, "route", "add", "default", "via", pair[1])
            ip("-n", there, family, "route", "add", "local", everything, "dev", "lo", "table", "main")

    def _sandbox(self, number: int) -> Space:
        made, port = self._space(f"s{number}"), f"sb{number}"
        ip("-n", self.gateway.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        ip("-n", self.gateway.name, "link", "set", port, "up", "master", "br0")
        # So that no sandbox reaches another one past the gateway.
        ip("-n", self.gateway.name, "link", "set", port, "type", "bridge_slave", "isolated", "on")
        own = addresses(number)
        ip("-n", made.name, "address", "add", f"{own[0]}/16", "dev", "eth0")
        ip("-n", made.name, "address", "add", f"{own[1]}/64", "dev", "eth0", "nodad")
        ip("-n", made.name, "link", "set", "eth0", "up")
        ip("-n", made.name, "route", "add", "default", "via", GATEWAY[0])
        ip("-n", made.name, "-6", "route", "add", "default", "via", GATEWAY[1])
        return made

    def forget_soon(self) -> None:
        """Shorten what the kernel remembers of connections that ended; possible once its tracking is loaded."""
        for name, seconds in _FORGOTTEN.items():
            self.gateway.set(f"netfilter.nf_conntrack_{name}", seconds)

    def tracked(self) -> int:
        """Connections that the gateway's kernel keeps track of."""
        with self.gateway.entered():
            listed = Path("/proc/thread-self/net/nf_conntrack")
            # Of those that are counted, some are over, and are removed when they are looked at.
            if listed.exists():
                return len(listed.read_text().splitlines())
        return self.gateway.read("netfilter.nf_conntrack_count")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


def addresses(number: int) -> tuple[str, str]:
    """A sandbox's IPv4 and IPv6 address; `number` begins with 1."""
    return f"10.80.{(10 + number) // 256}.{(10 + number) % 256}", f"fd80::{10 + number:x}"


def _remove_stale() -> None:
    """What a run that was killed left behind: a name carries the process id of its run."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not Path(f"/proc/{name.split('-')[2]}").exists():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)  # noqa: S603, S607

"""Three network namespaces in a row, client, gateway and server, between which the kernel redirects for real.

Addresses are public ones, so that the real classifier judges them; nothing can leave the machine. All of it is gone
with its namespaces, which are deleted whatever a test does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PREFIX = "roads"
CLIENT4, GATEWAY4, OUTSIDE4, SERVER4 = "10.201.1.2", "10.201.1.1", "93.184.216.1", "93.184.216.34"
CLIENT6, GATEWAY6, OUTSIDE6, SERVER6 = "fd01:201::2", "fd01:201::1", "2606:2800:220:1::1", "2606:2800:220:1::34"
# Where clients believe that their servers are: nobody has these.
BELIEVED4, BELIEVED6 = "93.184.216.200", "2606:2800:220:1::200"
PORT = 3129
_FREEBIND = 15

REDIRECT = f"""
table inet roads {{
  chain pre {{
    type nat hook prerouting priority dstnat
    iifname "inner" meta l4proto tcp redirect to :{PORT}
  }}
}}
"""
TPROXY = f"""
table inet roads {{
  chain pre {{
    type filter hook prerouting priority mangle
    iifname "inner" meta nfproto ipv4 meta l4proto tcp tproxy ip to :{PORT} meta mark set 1 accept
    iifname "inner" meta nfproto ipv6 meta l4proto tcp tproxy ip6 to :{PORT} meta mark set 1 accept
  }}
}}
"""
_LOCAL = (
    ("rule", "add", "fwmark", "1", "lookup", "100"),
    ("route", "add", "local", "default", "dev", "lo", "table", "100"),
)


class UnableError(RuntimeError):
    """The machine cannot do this; the message says what."""


def _require() -> None:
    """Raise UnableError where there can be no namespaces; whatever fails after that is a failure."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nft", "unshare"))):
        raise UnableError("it needs root, iproute2, nftables and util-linux")
    if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode:
        raise UnableError("it needs network namespaces")


def _run(*words: str, text: str | None = None) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True, input=text)
    assert done.returncode == 0, f"`{' '.join(words)}` failed: {done.stderr.strip()}"


class Space:
    """One namespace; sockets that it makes belong to it, whichever thread uses them."""

    def __init__(self, role: str) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-{role}"
        _run("ip", "netns", "add", self.name)
        self._inside = ThreadPoolExecutor(1, self.name)
        self._inside.submit(self._enter).result()
        self.ip("link", "set", "lo", "up")

    def _enter(self) -> None:
        with Path(f"/run/netns/{self.name}").open("rb") as handle:
            os.setns(handle.fileno(), os.CLONE_NEWNET)

    def ip(self, *words: str) -> None:
        """Run `ip` there."""
        _run("ip", "-n", self.name, *words)

    def nft(self, rules: str) -> None:
        """Load rules there."""
        _run(*self.command("nft", "-f", "-"), text=rules)

    def command(self, *words: str) -> list[str]:
        """What runs a program there."""
        return ["ip", "netns", "exec", self.name, *words]

    def call[Result](self, work: Callable[[], Result]) -> Result:
        """Do something on a thread that lives there."""
        return self._inside.submit(work).result()

    def listener(self, address: str, port: int) -> socket.socket:
        """A listening socket."""
        made = self.call(lambda: socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
        made.bind((address, port))
        made.listen(64)
        return made

    def connect(self, address: str, port: int) -> socket.socket:
        """A connected socket. Raises OSError."""
        made = self.call(lambda: socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        try:
            made.settimeout(8)
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """Delete it."""
        self._inside.shutdown()
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


class Network:
    """The three, wired; `rules` are the gateway's."""

    def __init__(self, rules: str) -> None:
        _require()
        _remove_stale()
        self._spaces: list[Space] = []
        try:
            for role in ("client", "gateway", "server"):
                self._spaces.append(Space(role))
            self.client, self.gateway, self.server = self._spaces
            self._wire(self.client, "outer", (CLIENT4, CLIENT6), "inner", (GATEWAY4, GATEWAY6))
            self._wire(self.server, "outer", (SERVER4, SERVER6), "outside", (OUTSIDE4, OUTSIDE6))
            self.client.ip("route", "add", "default", "via", GATEWAY4)
            self.client.ip("-6", "route", "add", "default", "via", GATEWAY6)
            if "tproxy" in rules:
                for words in _LOCAL:
                    self.gateway.ip(*words)
                    self.gateway.ip("-6", *words)
            self.gateway.nft(rules)
        except BaseException:
            self.close()
            raise

    def _wire(self, space: Space, name: str, own: tuple[str, str], peer: str, others: tuple[str, str]) -> None:
        space.ip("link", "add", name, "type", "veth", "peer", "name", peer, "netns", self.gateway.name)
        for where, device, addresses in ((space, name, own), (self.gateway, peer, others)):
            where.ip("address", "add", f"{addresses[0]}/24", "dev", device)
            where.ip("address", "add", f"{addresses[1]}/64", "dev", device, "nodad")
            where.ip("link", "set", device, "up")

    def join(self, role: str, device: str, own: tuple[str, str], others: tuple[str, str]) -> Space:
        """One more namespace, wired to the gateway's `device`; it has no route beyond."""
        space = Space(role)
        self._spaces.append(space)
        self._wire(space, "outer", own, device, others)
        return space

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Delete all of it."""
        for space in self._spaces:
            space.close()


def _remove_stale() -> None:
    """What a run that was killed left behind: a name carries the process id of its run."""
    done = subprocess.run(["ip", "netns", "list"], check=False, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not Path(f"/proc/{name.split('-')[1]}").exists():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

"""A small network of namespaces: sandboxes, the gateway that they are behind, and the internet beyond it.

Everything is open at the start: the gateway forwards, and the internet knows the way back. So whatever a test finds
closed was closed by the code under test, and a leak is a connection that works.

    sandbox   eth0 10.66.1.2, fd66:1::2  --  lan0 10.66.1.1, fd66:1::1  \
    neighbour eth0 10.66.2.2, fd66:2::2  --  lan1 10.66.2.1, fd66:2::1   gateway  wan0 -- eth0  internet
                                                        198.51.100.1, 2001:db8:64::1     .2, and every other address
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

PREFIX = "egress-net"
ROOT = Path(__file__).parents[2]
NEEDS = "these tests need root, iproute2 and nftables: run as root, after `python3 tests/tools/system_packages.py`"
SANDBOX, SANDBOX6 = "10.66.1.2", "fd66:1::2"
NEIGHBOUR, NEIGHBOUR6 = "10.66.2.2", "fd66:2::2"
GATEWAY, GATEWAY6 = "10.66.1.1", "fd66:1::1"
# Anywhere on the internet: it answers for every address.
ELSEWHERE, ELSEWHERE6 = "203.0.113.9", "2001:db8:99::9"
_COUNT = itertools.count()
_ALL_FRAMES = 3
_SENTINEL = b"egress-net: all that was sent before this was seen"
# Listener queries and reports, router and neighbour discovery: what a link with IPv6 says by itself.
_BY_ITSELF = {*range(130, 138), 143}


def ip(*words: str) -> str:
    """Run `ip`, and fail loudly."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"`ip {' '.join(words)}` failed: {done.stderr.strip()}; {NEEDS}"
    return done.stdout


def remove_stale() -> None:
    """Delete what runs that were killed left behind: a namespace's name carries the process id of its run."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not Path(f"/proc/{name.split('-')[2]}").exists():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Machine:
    """One namespace, and a thread that lives in it. Sockets made on that thread belong to the namespace for good."""

    def __init__(self, role: str) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-{next(_COUNT)}-{role}"
        self._inside = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.name)
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        self._inside.submit(self._move).result()
        # Addresses are usable at once: nobody else could have them.
        for scope in ("all", "default"):
            self.set(f"ipv6.conf.{scope}.accept_dad", 0)

    def _move(self) -> None:
        with Path(f"/run/netns/{self.name}").open("rb") as handle:
            os.setns(handle.fileno(), os.CLONE_NEWNET)

    def call[Result](self, work: Callable[[], Result]) -> Result:
        """Run `work` on the thread that lives here; programs that it starts live here too."""
        return self._inside.submit(work).result()

    def ip(self, *words: str) -> str:
        """Run `ip` here."""
        return ip("-n", self.name, *words)

    def set(self, name: str, value: int) -> None:
        """Set one of this machine's `net.` settings."""
        self.call(lambda: Path("/proc/sys/net", *name.split(".")).write_text(str(value)))

    def run(self, command: Sequence[str], *, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program here to its end."""
        return self.call(lambda: _run(command, text))

    def nft(self, text: str) -> None:
        """Change rules, as an administrator would by hand."""
        done = self.run(["nft", "-f", "-"], text=text)
        assert done.returncode == 0, done.stderr

    def egress(self, *words: str, before: Sequence[str] = (), apart: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the `egress` of this tree here; `before` is a program that runs it in turn, `apart` beside others."""
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from egress.cli.main import main; main()"
        entering = self.command() if apart else ()
        command = [*entering, *before, sys.executable, "-c", code, *words]
        return _run(command) if apart else self.run(command)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A socket of this machine."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def listener(self, address: str, port: int) -> socket.socket:
        """A TCP listener of this machine, at an address that need not be its own; IPv6 ones take no IPv4."""
        made = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
        made.bind((address, port))
        made.listen(64)
        return made

    def command(self, *words: str) -> list[str]:
        """What runs a program here, beside others."""
        return ["ip", "netns", "exec", self.name, *words]

    def close(self) -> None:
        """Delete the namespace, with its interfaces, rules and routes."""
        self._inside.shutdown()
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, check=False, capture_output=True, text=True, timeout=60)


class Wire:
    """What passes a machine's interface, from the moment on when this is made."""

    def __init__(self, machine: Machine, interface: str, nudge: Callable[[bytes], None]) -> None:
        self._nudge = nudge
        self._taken = machine.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
        self._taken.bind((interface, _ALL_FRAMES))
        self._taken.settimeout(10)

    def packets(self) -> list[bytes]:
        """The IP packets so far, without ARP and what IPv6 links say by themselves."""
        found: list[bytes] = []
        # More than once: a packet that passes two machines may come after one that passes one.
        for turn in range(3):
            time.sleep(0.02)
            mark = _SENTINEL + bytes([turn])
            self._nudge(mark)
            found += self._until(mark)
        return [frame[14:] for frame in found if _is_traffic(frame)]

    def _until(self, mark: bytes) -> Iterator[bytes]:
        while True:
            frame = self._taken.recv(65_536)
            if mark in frame:
                return
            yield frame

    def close(self) -> None:
        """Look no more."""
        self._taken.close()


def _is_traffic(frame: bytes) -> bool:
    kind = frame[12:14]
    if kind == b"\x86\xdd":
        packet = frame[14:]
        # A listener report has a hop-by-hop header of eight bytes before it.
        header, rest = (packet[40], packet[48:]) if packet[6] == 0 else (packet[6], packet[40:])
        return not (header == socket.IPPROTO_ICMPV6 and rest and rest[0] in _BY_ITSELF)
    return kind == b"\x08\x00" and _SENTINEL not in frame


class Network:
    """The machines of the picture above, with their links, addresses and routes."""

    def __init__(self) -> None:
        assert os.geteuid() == 0, NEEDS
        assert all(shutil.which(name) for name in ("ip", "nft")), NEEDS
        remove_stale()
        self._stack = contextlib.ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _build(self) -> None:
        self.sandbox, self.neighbour = self._machine("sandbox"), self._machine("neighbour")
        self.gateway, self.internet = self._machine("gateway"), self._machine("internet")
        self.link(self.sandbox, "lan0", (SANDBOX, GATEWAY), (SANDBOX6, GATEWAY6))
        self.link(self.neighbour, "lan1", (NEIGHBOUR, "10.66.2.1"), (NEIGHBOUR6, "fd66:2::1"))
        self.link(self.internet, "wan0", ("198.51.100.2", "198.51.100.1"), ("2001:db8:64::2", "2001:db8:64::1"))
        self.gateway.ip("route", "add", "default", "via", "198.51.100.2")
        self.gateway.ip("-6", "route", "add", "default", "via", "2001:db8:64::2")
        for family, everything, inside in (("-4", "0.0.0.0/0", "10.66.0.0/16"), ("-6", "::/0", "fd66::/16")):
            self.internet.ip(family, "route", "add", inside, "via", _next_hop(family))
            self.internet.ip(family, "route", "add", "local", everything, "dev", "lo", "table", "main")
        # An answer comes from the address that was asked.
        self.internet.set("ipv6.ip_nonlocal_bind", 1)
        # So that an answer that is missing was never sent, whichever test went before.
        for name in ("ipv4.icmp_ratelimit", "ipv6.icmp.ratelimit"):
            self.gateway.set(name, 0)
        self.forward(1)

    def _machine(self, role: str) -> Machine:
        made = Machine(role)
        self._stack.callback(made.close)
        return made

    def link(self, far: Machine, near: str, ipv4: tuple[str, str], ipv6: tuple[str, str]) -> None:
        """A cable from `eth0` of `far` to `near` of the gateway, with both ends' addresses and a default route."""
        self.gateway.ip("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", far.name)
        for machine, name, at in ((far, "eth0", 0), (self.gateway, near, 1)):
            machine.ip("address", "add", f"{ipv4[at]}/24", "dev", name)
            machine.ip("address", "add", f"{ipv6[at]}/64", "dev", name, "nodad")
            machine.ip("link", "set", name, "up")
        if far is not self.internet:
            far.ip("route", "add", "default", "via", ipv4[1])
            far.ip("-6", "route", "add", "default", "via", ipv6[1])

    def forward(self, value: int) -> None:
        """Whether the gateway forwards."""
        for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.gateway.set(name, value)

    @contextlib.contextmanager
    def watched(self) -> Iterator[Wire]:
        """Look at what reaches the internet."""
        sender = self.gateway.socket(kind=socket.SOCK_DGRAM)
        wire = Wire(self.internet, "eth0", lambda mark: _send(sender, mark))
        try:
            yield wire
        finally:
            wire.close()
            sender.close()

    def close(self) -> None:
        """Delete all of it."""
        self._stack.close()


def _next_hop(family: str) -> str:
    return "198.51.100.1" if family == "-4" else "2001:db8:64::1"


def _send(sender: socket.socket, mark: bytes) -> None:
    sender.sendto(mark, ("198.51.100.2", 9))


class Server:
    """Listeners for TCP (`streams`) and UDP over both families; `seen` has each answer to a connection or datagram."""

    def __init__(
        self,
        machine: Machine,
        port: int,
        answer: Callable[[socket.socket], bytes],
        *,
        transparent: bool = False,
        streams: bool = True,
    ) -> None:
        self.seen: list[bytes] = []
        self._answer = answer
        self._wake, self._stop = os.pipe()
        families = (socket.AF_INET, socket.AF_INET6)
        tcp = families if streams else ()
        self._tcp = [_bound(machine, family, socket.SOCK_STREAM, port, transparent=transparent) for family in tcp]
        self._udp = [_bound(machine, family, socket.SOCK_DGRAM, port, transparent=False) for family in families]
        for listener in self._tcp:
            listener.listen(64)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._wake, *self._tcp, *self._udp], [], [])
            if self._wake in ready:
                return
            for sock in ready:
                with contextlib.suppress(OSError):
                    (self._connection if sock in self._tcp else self._datagram)(sock)

    def _connection(self, listener: socket.socket) -> None:
        carrier, _ = listener.accept()
        with carrier:
            carrier.settimeout(1)
            self.seen.append(self._answer(carrier))
            carrier.sendall(self.seen[-1])

    def _datagram(self, sock: socket.socket) -> None:
        # From the address that was asked, which is any at all on the internet.
        _, told, _, peer = sock.recvmsg(2048, 128)
        self.seen.append(b"datagram")
        answered = [(level, kind, _for_any_interface(level, data)) for level, kind, data in told]
        sock.sendmsg([b"datagram"], answered, 0, peer)

    def close(self) -> None:
        """Listen no more."""
        os.write(self._stop, b"x")
        self._thread.join(5)
        for sock in (*self._tcp, *self._udp):
            sock.close()
        os.close(self._wake)
        os.close(self._stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _bound(machine: Machine, family: int, kind: int, port: int, *, transparent: bool) -> socket.socket:
    sock = machine.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if transparent:
        level, option = (socket.SOL_IP, 19) if family == socket.AF_INET else (socket.IPPROTO_IPV6, 75)
        sock.setsockopt(level, option, 1)
    if kind == socket.SOCK_DGRAM:
        level, option = (socket.IPPROTO_IP, 8) if family == socket.AF_INET else (socket.IPPROTO_IPV6, 49)
        sock.setsockopt(level, option, 1)
    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    return sock


def _for_any_interface(level: int, told: bytes) -> bytes:
    """Where a datagram arrived, made into where its answer comes from: the interface is left to the routes."""
    return bytes(4) + told[4:] if level == socket.IPPROTO_IP else told[:16] + bytes(4)


def original_destination(carrier: socket.socket) -> bytes:
    """Where a redirected connection wanted to go, as `HOST PORT`."""
    if carrier.family == socket.AF_INET:
        raw = carrier.getsockopt(socket.SOL_IP, 80, 16)
        return f"{socket.inet_ntop(socket.AF_INET, raw[4:8])} {int.from_bytes(raw[2:4], 'big')}".encode()
    raw = carrier.getsockopt(socket.IPPROTO_IPV6, 80, 28)
    return f"{socket.inet_ntop(socket.AF_INET6, raw[8:24])} {int.from_bytes(raw[2:4], 'big')}".encode()


def own_name(carrier: socket.socket) -> bytes:
    """Where a connection that TPROXY took wanted to go, as `HOST PORT`."""
    host, port = carrier.getsockname()[:2]
    return f"{host} {port}".encode()

"""An internet for the machines of `rig.netns`, whose packets are counted; the base of worlds with a real proxy.

The network forwards: what is closed was closed by rules. Out there:

    93.184.216.34, 2606:2800:220:1::34   the origin: 80, 443, and raw TCP (an echo) on 5432
    9.9.9.9                              the one name server that the proxy asks
    every other address                  the attacker, on the same ports
    UDP 443 of every address             what stands for QUIC
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.authority import TestAuthority
from harness.nameserver import NameServer
from harness.origins import Origins

from rig.ledger import wait_until
from rig.netns import ROOT, Network, Server
from rig.packets import Packet, sent
from rig.process import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from harness.origins import Stream

    from rig.netns import Machine

ORIGIN, ORIGIN6 = "93.184.216.34", "2606:2800:220:1::34"
ATTACKER, ATTACKER6 = "45.33.32.156", "2600:3c01::156"
RESOLVER, RESOLVER6 = "8.8.8.8", "2001:4860:4860::8888"
SERVER = "9.9.9.9"
DATABASE = 5432
COMMIT = "5f1c0a7e9d2b48c6a3e1f70d9b8c6a5e4d3c2b1a"
_BOTH = (f"A {ORIGIN}", f"AAAA {ORIGIN6}")
_NAMES = ("site.test", "tunnel.test", "db.test", "theirs.test", "*.wild.test", "moving.test")
_QUIET = {"06", "0A"}  # TIME_WAIT, LISTEN: connections of which no packet comes any more
_START = "from egress.cli.main import main; main()"


class Internet:
    """The network and what is out there. A world adds its proxy and its rules in `prepare`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        try:
            self._build()
            self.prepare()
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Start what the world is about; undone by what it leaves on the stack."""
        raise NotImplementedError

    def _build(self) -> None:
        self.network = self._stack.enter_context(Network())
        internet = self.network.internet
        internet.ip("address", "add", f"{SERVER}/32", "dev", "lo")
        self.authority = TestAuthority(self.folder / "roots")
        zone = dict.fromkeys(_NAMES, _BOTH)
        self.names = NameServer(internet, [SERVER], zone)  # type: ignore[arg-type] -- it has what is used of it
        self._stack.callback(self.names.close)
        self.origins = Origins(
            internet,  # type: ignore[arg-type] -- likewise
            self.authority,
            allowed=frozenset({ORIGIN, ORIGIN6}),
            ports=(22, 80, 443, 853, DATABASE),
        )
        self._stack.callback(self.origins.close)
        self._stack.enter_context(self.origins.behaving(serve))
        self._stack.enter_context(self.origins.behaving(serve, role="evil"))
        self.quic = self._stack.enter_context(Server(internet, 443, lambda _: b"", streams=False))
        for machine in (self.network.sandbox, self.network.neighbour):
            self._stack.callback(resolves_by(machine, RESOLVER))

    def settled(self) -> None:
        """Wait until nothing more comes of the connections that there were."""
        self.origins.drop()
        wait_until(lambda: not self.network.internet.call(_speaking), "the end of connections on the internet", 8)

    @contextlib.contextmanager
    def nothing_leaves(self, *, but: Callable[[Packet], bool] = lambda _: False) -> Iterator[None]:
        """Within the block no packet reaches the internet, but for those of a kind.

        The capture proves that it sees: it ends when it has seen a packet that was sent for that purpose.
        """
        with self.watched() as packets:
            yield
            assert [packet for packet in packets() if not but(packet)] == []

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], list[Packet]]]:
        """Within the block, what the gateway sends to the internet; nothing of what was before it."""
        self.settled()
        with self.network.watched() as wire:
            yield lambda: sent(wire.packets())

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def serve(stream: Stream) -> None:
    """An echo where raw TCP is spoken; elsewhere one answer a connection, so that none is kept open unseen."""
    if stream.record.port == DATABASE:
        while data := stream.receive():
            stream.send(data)
        return
    head = stream.request()
    if head is None:
        return
    body = f"ok {stream.record.role}".encode()
    if b"/info/refs" in head.line:
        body = f"{COMMIT}\trefs/heads/main\n".encode()
    stream.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def resolves_by(machine: Machine, server: str) -> Callable[[], None]:
    """Have programs on a machine ask this name server; what is given back undoes it."""
    settings = Path("/etc/netns", machine.name)
    settings.mkdir(parents=True)
    (settings / "resolv.conf").write_text(f"nameserver {server}\n")
    (settings / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    return lambda: shutil.rmtree(settings, ignore_errors=True)


def start_proxy(machine: Machine, folder: Path, *, before: tuple[str, ...] = ()) -> Process:
    """`egress run` of this tree on a machine, with `egress.yaml` of a folder; `before` runs it in turn."""
    command = machine.command(*before, sys.executable, "-c", _START, "run", "--config", str(folder / "egress.yaml"))
    env = {"PYTHONPATH": str(ROOT)}
    proxy = Process(command, env=env, cwd=folder, listens=r"listening on http://(\S+):(\d+)")
    try:
        proxy.address()
    except BaseException:
        end_proxy(proxy)
        raise
    return proxy


def end_proxy(proxy: Process) -> None:
    """End it, and hold it to an orderly end."""
    with proxy:
        if proxy.popen.poll() is None:
            proxy.popen.terminate()
            assert proxy.ended() == 0
    assert "Traceback" not in proxy.printed


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for at in found:
        for children in Path(f"/proc/{at}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def _speaking() -> bool:
    """Whether any TCP connection of this thread's network may still send."""
    rows = [row for name in ("tcp", "tcp6") for row in Path("/proc/thread-self/net", name).read_text().splitlines()[1:]]
    return any(row.split()[3] not in _QUIET for row in rows)


def tool(machine: Machine, *command: str, patience: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run a program on a machine, with its name server; one that hangs fails the test."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", "LANG": "C.UTF-8"}
    return subprocess.run(
        machine.command(*command), check=False, capture_output=True, text=True, env=env, timeout=patience
    )


def connect(machine: Machine, host: str, port: int, *, seconds: float = 5.0) -> socket.socket:
    """A connected socket of a machine. Raises OSError."""
    made = machine.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.settimeout(seconds)
    try:
        made.connect((host, port))
    except BaseException:
        made.close()
        raise
    return made


def ended(carrier: socket.socket, seconds: float = 8.0) -> bytes:
    """What comes until the peer ends the connection, in whatever way. Raises TimeoutError if it does not."""
    carrier.settimeout(seconds)
    deadline, held = time.monotonic() + seconds, b""
    with contextlib.suppress(ConnectionError):
        while data := carrier.recv(65_536):
            held += data
            assert time.monotonic() < deadline
    return held

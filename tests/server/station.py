"""A folder in which `egress run` is started as a real process, and short ways to ask it and to look at it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rig.modes import HOST, RAW, TUNNELLED, policy
from rig.process import BIN, Process
from rig.proxy import SECRET, port_of
from rig.wire import Reply, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.authority import TestAuthority
    from harness.origins import Origins

LISTENS = r"listening on http://([\d.]+):(\d+)"
NAMES = (HOST, TUNNELLED, RAW)


class Station:
    """A folder in which `egress run` is started, and short ways to ask it."""

    def __init__(self, folder: Path, origin: Origins, roots: TestAuthority) -> None:
        self.folder, self.origin, self.roots, self.port = folder, origin, roots, port_of(origin)
        self.policy = folder / "policy.yaml"
        self.policy.write_text(policy(self.port))
        self.config = folder / "egress.yaml"
        self.config.write_text("limits: {drain_seconds: 3}\n")
        self.state = folder / "state"

    def command(self, *more: str, listen: str = "127.0.0.1:0") -> list[str]:
        """The command line, with a pin for each name of the policy."""
        pins = [text for name in NAMES for text in ("--resolve", f"{name}:127.0.0.1")]
        return [
            *(str(BIN / "egress"), "run", "--policy", str(self.policy), "--listen", listen),
            *("--state-dir", str(self.state), "--upstream-ca", str(self.roots.ca_file)),
            *("--config", str(self.config), *pins, *more),
        ]

    @contextmanager
    def running(self, *more: str, env: dict[str, str] | None = None) -> Iterator[Process]:
        """The proxy, listening."""
        env = {"CANARY": SECRET} if env is None else env
        with Process(self.command(*more), env=env, cwd=self.folder, listens=LISTENS) as process:
            self.address = process.address()
            yield process

    def refused(self, *more: str, listen: str = "127.0.0.1:0") -> tuple[int, str]:
        """What a start that must fail ends with and prints."""
        with Process(self.command(*more, listen=listen), env={}, cwd=self.folder, listens=LISTENS) as process:
            status = process.ended()
            return status, process.printed

    def wire(self) -> Wire:
        """A connection."""
        return Wire(socket.create_connection(self.address, timeout=10))

    def request(self, host: str = HOST, path: str = "/") -> bytes:
        """A plain request."""
        return f"GET http://{host}:{self.port}{path} HTTP/1.1\r\nHost: {host}:{self.port}\r\n\r\n".encode()

    def ask(self, host: str = HOST) -> Reply:
        """A plain request on a connection of its own."""
        with self.wire() as wire:
            return wire.send(self.request(host)).reply()

    def tunnel(self, host: str) -> Wire:
        """A connection after its CONNECT."""
        wire = self.wire()
        wire.send(f"CONNECT {host}:{self.port} HTTP/1.1\r\nHost: {host}:{self.port}\r\n\r\n".encode())
        assert wire.reply("CONNECT").status == 200
        return wire

    def table(self, sql: str) -> list[tuple[object, ...]]:
        """Rows of the audit."""
        database = sqlite3.connect(f"file:{self.state / 'audit.db'}?mode=ro", uri=True)
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()


def family(process: Process) -> dict[str, int]:
    """The processes that a proxy has forked, by name."""
    children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()
    names = {int(pid): _name(int(pid)) for pid in children}
    # One that has just been forked still has the name of its parent.
    return {name.removeprefix("egress "): pid for pid, name in names.items() if name.startswith("egress ")}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether a process is there, and not only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int) -> None:
    """End one process at once."""
    os.kill(pid, signal.SIGKILL)

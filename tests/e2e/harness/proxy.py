"""The real proxy as a process in the namespace: started, waited for, watched, stopped, its audit rows read."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.namespace import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.namespace import Namespace

    type Row = dict[str, object]

COMMAND = Path(sys.executable).with_name("egress")
START_SECONDS = 20.0
STOP_SECONDS = 20.0
# What must never stand in a log, whatever a client did.
CRASHES = ("Traceback (most recent call last)", "has crashed", "Addon error", "was never retrieved", "Fatal error")
# Shorter waits than a user's, so that the tests do not spend their time on them.
# Many cases share a proxy and are refused alike: each must have its row, however fast they follow one another.
CONFIG = "audit: {flush_interval: 0.02, denial_rows: 1000000}\nlimits: {drain_seconds: 3}\n"
_READY = re.compile(rb"listening on http://(\S+):(\d+)")


@dataclass(frozen=True)
class Start:
    """How to start a proxy. `command` is what runs: the console script, or the script that breaks a part of it."""

    policy: str
    listen: str
    upstream_ca: Path
    env: Mapping[str, str] = field(default_factory=dict)
    extra: Sequence[str] = ()
    command: Sequence[str] = (str(COMMAND),)
    config: str = CONFIG


class ProxyProcess:
    """A running proxy. `folder` holds policy.yaml, state/ and the logs."""

    def __init__(self, namespace: Namespace, folder: Path, start: Start) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.log_file, self.out_file = folder / "stderr.log", folder / "stdout.log"
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.policy_file = folder / "policy.yaml"
        self.policy_file.write_text(start.policy)
        self.policy_file.chmod(0o644)
        home = folder / "home"
        home.mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **start.env}
        with self.log_file.open("wb") as log, self.out_file.open("wb") as out:
            self.process = namespace.popen(self._command(start), env=env, cwd=folder, stdout=out, stderr=log)
        self.started = time.monotonic()
        self.exit_code: int | None = None
        self._address: tuple[str, int] | None = None

    def _command(self, start: Start) -> list[str]:
        config = self.folder / "egress.yaml"
        config.write_text(start.config)
        config.chmod(0o644)
        return [
            *start.command,
            "run",
            *("--policy", str(self.policy_file)),
            *("--listen", start.listen),
            *("--state-dir", str(self.state)),
            *("--upstream-ca", str(start.upstream_ca)),
            *("--config", str(config)),
            *start.extra,
        ]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; waits until it says so."""
        if self._address is None:
            self._address = self._wait_ready()
            self.seconds_to_ready = time.monotonic() - self.started
        return self._address

    def _wait_ready(self) -> tuple[str, int]:
        while time.monotonic() < self.started + START_SECONDS:
            if match := _READY.search(self.out_file.read_bytes()):
                return match[1].decode().strip("[]"), int(match[2])
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        told = f"exit code {self.process.poll()}\n{self.out}\n{self.log}"
        self.kill()
        raise HarnessError(f"the proxy did not start: {told}")

    @property
    def url(self) -> str:
        """The proxy's URL, as clients are told it."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def ca_file(self) -> Path:
        """The CA that clients have to trust."""
        return self.state / "ca" / "ca.pem"

    @property
    def log(self) -> str:
        """Its log so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def out(self) -> str:
        """What it printed so far."""
        return self.out_file.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """True until it exits."""
        return self.process.poll() is None

    def rows(self, client: str = "", *, view: str = "requests") -> list[Row]:
        """The rows of the view (oldest first), all or those of one client address."""
        path = self.state / "audit.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            database.row_factory = sqlite3.Row
            found = [dict(row) for row in database.execute(f"SELECT * FROM {view} ORDER BY seq")]  # noqa: S608 -- constants
        return [row for row in found if not client or address_of(str(row["client"])) == client]

    def wait_rows(self, client: str, enough: Callable[[list[Row]], bool], patience: float = 3.0) -> list[Row]:
        """The rows of `client` as soon as `enough` says so, or when patience is over."""
        deadline = time.monotonic() + patience
        while True:
            rows = self.rows(client)
            if enough(rows) or time.monotonic() > deadline:
                return rows
            time.sleep(0.02)

    def family(self) -> list[int]:
        """The ids of the process and its children."""
        return _family(self.process.pid)

    def resident(self) -> int:
        """Bytes in memory of the process and its children."""
        return sum(_resident(pid) for pid in self.family())

    def stop(self) -> int:
        """SIGTERM, wait, give the exit code. Kills what does not stop in time (exit code -9 then)."""
        if self.exit_code is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.exit_code = self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.exit_code or 0

    def kill(self) -> None:
        """SIGKILL, and wait."""
        # The parent first: it would replace a child that dies.
        for pid in _family(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.exit_code = self.process.wait()

    def crashes(self) -> list[str]:
        """What of the log shows that something broke: the line before each such line, and what it ended with."""
        lines = self.log.splitlines()
        found = []
        for at, line in enumerate(lines):
            if any(word in line for word in CRASHES):
                ends = (later for later in lines[at + 1 :] if not later.startswith(" "))
                found.append(f"{lines[max(at - 1, 0)]} / {next(ends, line)}")
        return found

    def close(self) -> None:
        """Stop it, and hold it to a clean end."""
        code = self.stop()
        assert code == 0, f"the proxy ended with {code}: {self.log[-4000:]}"
        broken = self.crashes()
        assert not broken, f"{self.folder}: {broken[:20]}"

    def remove(self) -> None:
        """Delete its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def address_of(client: str) -> str:
    """The address in a `client` column: `10.1.2.3:4567`, `10.1.2.3` or `[::1]:4567`."""
    if client.startswith("["):
        return client[1:].partition("]")[0]
    return client.rpartition(":")[0] if client.count(":") == 1 else client


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(later for child in children for later in _family(int(child)))]


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0

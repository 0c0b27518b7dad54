"""Programs under test: started, measured as a whole tree, and ended. Only what was started here is ever ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_LISTENS_IN: Final = 60.0


class ProgramError(RuntimeError):
    """A program that does not start, or ended; with what it wrote last."""


def parent_and_cpu(stat: str) -> tuple[int, float]:
    """The parent and the CPU seconds of a process, and of its children that ended, from its /proc/PID/stat.

    The name comes second, in parentheses, and may hold blanks and parentheses itself: what counts is after the last.
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15])) * _TICK


def _stats() -> dict[int, tuple[int, float]]:
    found: dict[int, tuple[int, float]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = parent_and_cpu(Path(entry.path, "stat").read_text())
            except OSError:  # it ended just now
                continue
    return found


def tree(root: int, parents: Mapping[int, int]) -> list[int]:
    """The process and everything below it."""
    members = [root]
    for member in members:  # grows as it is walked
        members.extend(pid for pid, parent in parents.items() if parent == member)
    return members


def _proportional_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


@dataclass(slots=True)
class Program:
    """A running program; `port` is where it listens."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    port: int
    started_in: float = 0.0

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], *, env: Mapping[str, str], port: int, folder: Path, core: str | None
    ) -> Self:
        """Start it, held to `core` if one is named, and wait until it listens on `port`."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "output.log"
        # It ends with the driver, however that ends.
        prefix = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        if core is not None and shutil.which("taskset"):
            prefix += ["taskset", "-c", core]
        began = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - the programs under test
                [*prefix, *command],
                cwd=folder,
                env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(folder), **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        program = cls(name, process, log, port)
        try:
            program._wait_until_it_listens(began)
        except BaseException:
            program.stop()
            raise
        return program

    def _wait_until_it_listens(self, began: float) -> None:
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    self.started_in = time.monotonic() - began
                    return
            self.check()
            if time.monotonic() - began > _LISTENS_IN:
                raise ProgramError(f"{self.name} does not listen: {self.last_words()}")
            time.sleep(0.005)

    def last_words(self) -> str:
        """The end of its output, in one line."""
        return " ".join(self.log.read_bytes()[-2_000:].decode(errors="replace").split())[-400:]

    def check(self) -> None:
        """Raise if it ended."""
        if self.process.poll() is not None:
            raise ProgramError(f"{self.name} ended ({self.process.returncode}): {self.last_words()}")

    def members(self) -> list[int]:
        """Its processes."""
        return tree(self.process.pid, {pid: parent for pid, (parent, _) in _stats().items()})

    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        stats = _stats()
        members = tree(self.process.pid, {pid: parent for pid, (parent, _) in stats.items()})
        return sum(stats[pid][1] for pid in members if pid in stats)

    def memory_mib(self) -> float:
        """Resident memory of all its processes, shared pages counted once."""
        return sum(map(_proportional_kib, self.members())) / 1024

    def stop(self) -> None:
        """End it and everything below it."""
        members = self.members() if self.process.poll() is None else []
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        stats = _stats()
        for pid in members:
            # A number that went to somebody else since then has another session.
            if pid in stats and os.getsid(pid) == self.process.pid:
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

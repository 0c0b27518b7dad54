"""Who is measured: each contender starts a proxy that allows one host, denies the rest, logs, and injects where it can.

1. A contender serves one or more lanes. `plain`: HTTP by absolute-form. `tunnel`: CONNECT, TLS carried unopened.
   `inspected`: CONNECT, TLS opened, a credential injected, one path denied.
2. One that cannot be had here, or does not apply, raises `Absent` with the reason. The document lists it.
3. What each one is told is the same: no more and no less than that policy, with logging on and no cache.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bench.driver.processes import Program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.driver.authority import Authority
    from bench.driver.origin import Origin

CREDENTIAL: Final = "secret-0123456789abcdef"
NO_HOSTS_FILE: Final = "it reads names from the system's hosts file; the run gives it one of its own only as root"


class Absent(Exception):  # noqa: N818 - no error: a fact that the document states
    """Why a contender is not measured."""


class Lane(StrEnum):
    """What a contender does with a connection."""

    PLAIN = "plain"
    TUNNEL = "tunnel"
    INSPECTED = "inspected"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a contender runs. `private`: it has the run's own hosts file. `authority`: a CA for those that take one."""

    folder: Path
    origin: Origin
    authority: Authority
    private: bool
    core: str | None

    def start(self, name: str, command: Sequence[str], port: int, env: dict[str, str] | None = None) -> Program:
        """Start a contender's program in a folder of its own, held to the proxies' core."""
        return Program.start(name, command, env=env or {}, port=port, folder=self.place(name), core=self.core)

    def place(self, name: str) -> Path:
        """The contender's own folder."""
        place = self.folder / name.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True, exist_ok=True)
        return place


@dataclass(frozen=True, slots=True)
class Contender:
    """A running one. `ca_file`: what clients trust of it when it inspects. No program: the origin itself."""

    name: str
    version: str
    lanes: frozenset[Lane]
    program: Program | None
    ca_file: Path
    ours: bool = False

    @property
    def proxy(self) -> list[str]:
        """The load generator's arguments that send it through this one."""
        return ["-x", str(self.program.port)] if self.program else []

    def cpu(self) -> float:
        """CPU seconds of its processes so far."""
        if self.program is None:
            return 0.0
        self.program.check()
        return self.program.cpu()


def output(*command: str) -> str:
    """The first line that the command writes: a version, most often."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)  # noqa: S603 - the peers
    return (done.stdout + done.stderr).strip().partition("\n")[0]

"""The whole field: starts the origin and every contender, checks that each enforces the policy, and ends them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bench.driver import load
from bench.driver.authority import Authority
from bench.driver.cells import probes
from bench.driver.contenders import (
    Absent,
    Contender,
    Lane,
    Site,
    egress,
    envoy,
    output,
    python_peers,
    sandbox_runtime,
    small,
    squid,
)
from bench.driver.installing import found
from bench.driver.machine import isolate, proxy_core, raise_open_files
from bench.driver.origin import start_origin
from bench.driver.processes import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OURS: Final[Mapping[str, Callable[[Site], Contender]]] = {
    "egress, tunnel lane": egress.tunnel,
    "egress, http lane": egress.http,
}
SQUID: Final[Mapping[str, Callable[[Site], Contender]]] = {"squid": squid.tunnel, "squid, ssl-bump": squid.bump}
OTHERS: Final[Mapping[str, Callable[[Site], Contender]]] = {
    "egress, mitm lane": egress.mitm,
    "envoy": envoy.tunnel,
    "envoy, TLS opened": envoy.inspecting,
    "tinyproxy": small.tinyproxy,
    "haproxy": small.haproxy,
    "mitmdump, addon": python_peers.mitmdump,
    "proxy.py": python_peers.proxy_py,
    "proxy.py, interception": python_peers.proxy_py_inspecting,
    "sandbox-runtime": sandbox_runtime.tunnel,
    "sandbox-runtime, TLS terminated": sandbox_runtime.inspecting,
}
_SECONDS: Final = 10.0


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")


@dataclass(slots=True)
class Field:
    """What runs. `absent`: the contenders that are not measured, each with the reason."""

    site: Site
    generator: Path
    stack: ExitStack
    contenders: list[Contender] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Self]:
        """The origin alone, in namespaces of its own where that is possible."""
        raise_open_files()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="egress-bench-")))
            folder.chmod(0o755)  # some peers go on as another user
            shared = Path("/dev/shm")  # noqa: S108 - a folder of our own below it
            scratch = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="egress-bench-", dir=shared if shared.is_dir() else None)
                )
            )
            private = isolate(folder)
            origin = start_origin(folder / "origin", scratch)
            stack.callback(origin.program.stop)
            authority = Authority.make(folder / "ca", "bench proxy CA")
            site = Site(folder, origin, authority, private, proxy_core())
            opened = cls(site, load.build(folder), stack)
            opened.contenders.append(Contender("direct", nginx_version(), frozenset(Lane), None, origin.ca_file))
            yield opened

    def enter(self, starts: Mapping[str, Callable[[Site], Contender]]) -> None:
        """Start these contenders; one that cannot be is noted as absent."""
        for name, start in starts.items():
            say(f"starting {name}")
            try:
                self.contenders.append(self.start(start))
            except (Absent, ProgramError, OSError, subprocess.SubprocessError) as error:
                self.absent[name] = str(error)
                say(f"  left out: {error}")

    def start(self, start: Callable[[Site], Contender]) -> Contender:
        """Start one, and hold it to the policy."""
        contender = start(self.site)
        if contender.program is not None:
            self.stack.callback(contender.program.stop)
        for what, arguments in probes(contender, self.site.origin):
            sample = load.run(self.generator, arguments, lambda: 0.0, _SECONDS)
            if not sample.answered or sample.failed or sample.error:
                raise ProgramError(f"it does not enforce the run's policy ({what}: {sample.error or 'no answer'})")
        return contender

    def lose(self, name: str, why: str) -> None:
        """Note that a contender ended in the run."""
        self.contenders = [contender for contender in self.contenders if contender.name != name]
        self.absent[name] = f"it ended in the run: {why}"

    def named(self, name: str) -> Contender | None:
        """The contender of that name, if it runs."""
        return next((contender for contender in self.contenders if contender.name == name), None)


def nginx_version() -> str:
    """The origin's version."""
    nginx = found("nginx")
    return output(nginx, "-v").rpartition("/")[2] if nginx else ""

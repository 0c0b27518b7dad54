"""Runs the load generator beside a proxy and reads both: what the clients got, and what it cost the proxy."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.driver.processes import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SOURCE: Final = Path(__file__).parent.parent / "load.c"
_GRACE: Final = 90.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Rates are each second, CPU is of the proxy's whole tree inside the window.

    `bytes_moved` counts bodies, both ways. `failed` requests are errors, `error` says of which kind the first was.
    """

    seconds: float
    answered: int
    failed: int
    bytes_moved: int
    p50_us: float
    p99_us: float
    cpu_seconds: float
    held: int = 0
    error: str = ""

    @property
    def per_second(self) -> float:
        """Answers each second."""
        return self.answered / self.seconds

    @property
    def cpu_us(self) -> float | None:
        """Microseconds of CPU for an answer."""
        return self.cpu_seconds / self.answered * 1e6 if self.answered else None

    @property
    def cpu_ms_per_mb(self) -> float | None:
        """Milliseconds of CPU for a million bytes of body."""
        return self.cpu_seconds / self.bytes_moved * 1e9 if self.bytes_moved else None


def build(folder: Path) -> Path:
    """Compile the generator; gives its path."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise ProgramError("there is no C compiler: the Debian packages are gcc and libssl-dev")
    program = folder / "load"
    command = [compiler, "-O2", "-o", str(program), str(SOURCE), "-lssl", "-lcrypto"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own source
    if done.returncode:
        raise ProgramError(f"bench/load.c does not compile (libssl-dev?): {done.stderr[-400:]}")
    return program


def run(
    generator: Path,
    arguments: Sequence[str],
    cpu: Callable[[], float],
    seconds: float,
    held: Callable[[], None] | None = None,
) -> Sample:
    """Run it for one window, reading `cpu` where the window opens and closes; `held` is called as it opens."""
    command = [str(generator), *arguments, "-d", str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for above
        process.stdout.readline()
        before = cpu()
        if held is not None:
            held()
        line = process.stdout.readline()
        used = cpu() - before
        _, errors = process.communicate(timeout=seconds + _GRACE)
    finally:
        process.kill()
        process.wait()
    if not line:
        raise ProgramError(f"the load generator failed: {errors[-400:]}")
    return _sample(json.loads(line), used)


def _sample(read: dict[str, float | int | str], cpu_seconds: float) -> Sample:
    def number(name: str) -> float:
        return float(read[name])

    return Sample(
        seconds=max(number("seconds"), 1e-6),
        answered=int(number("answered")),
        failed=int(number("failed")),
        bytes_moved=int(number("bytes")),
        p50_us=number("p50_us"),
        p99_us=number("p99_us"),
        cpu_seconds=cpu_seconds,
        held=int(number("held")),
        error=str(read["first_error"]),
    )

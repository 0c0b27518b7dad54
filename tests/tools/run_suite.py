"""Run the tests in processes side by side, as most of them wait: those with real programs, and the others.

What the first says is seen as it comes; what the others say follows when all are done. Exit code 0: all passed.

A part is what a mark expression says. Some folders have marks of their own (`FOLDERS`), so that all parts take about as
long, and each reads few files of another.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TESTS = Path(__file__).parent.parent
FOLDERS = {
    "beside": tuple(TESTS / name for name in ("corpus", "server")),
    "traffic": tuple(TESTS / name for name in ("lanes", "mitm", "proxy", "viewer")),
}
_BESIDE, _TRAFFIC = FOLDERS["beside"], FOLDERS["traffic"]
# Each with where its tests are.
PARTS: dict[str, tuple[str, ...]] = {
    "e2e and not beside": tuple(f"--ignore={folder}" for folder in _BESIDE),
    "beside": tuple(map(str, _BESIDE)),
    "traffic and not e2e": tuple(map(str, _TRAFFIC)),
    "not (e2e or beside or traffic)": tuple(f"--ignore={folder}" for folder in (*_BESIDE, *_TRAFFIC)),
}
# What a shell ignores for what it puts into the background, a test's own programs must be able to get.
SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def run(commands: Sequence[Sequence[str]]) -> int:
    """Run commands side by side; the highest exit code. None outlives this call."""
    first, *others = commands
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in others]
        running = [subprocess.Popen(first)]
        running += [
            subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            for command, file in zip(others, files, strict=True)
        ]
        for process in running:
            stack.callback(_end, process)
        codes = [process.wait() for process in running]
        for file in files:
            file.seek(0)
            sys.stdout.buffer.write(file.read())
        sys.stdout.buffer.flush()
    # A process that a signal ended has a negative code, which must not pass for less than a failure.
    return max(abs(code) for code in codes)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def heed_signals() -> None:
    """Ignore none of `SIGNALS` from here on, in this process and in those that it starts."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def compile_once() -> None:
    """Compile the package for the hundreds of programs that the tests start: each would compile it for itself."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(TESTS.parent / "egress", quiet=2)


if __name__ == "__main__":
    heed_signals()
    compile_once()
    pytest = str(Path(sys.executable).with_name("pytest"))
    sys.exit(run([[pytest, "-m", part, *where] for part, where in PARTS.items()]))

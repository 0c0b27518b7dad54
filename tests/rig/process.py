"""Real processes: started, waited for, told signals, and held to what they printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from types import TracebackType

BIN = Path(sys.executable).parent
START_SECONDS = 30.0


class Process:
    """A program that prints where it listens. Leaving the block kills it, by its own id."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, listens: str) -> None:
        self._listens = re.compile(listens)
        self._lines: list[str] = []
        self.started = time.monotonic()
        base = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        self.popen = subprocess.Popen(
            command,
            cwd=cwd,
            env={**base, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert self.popen.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.popen.stdout,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(20)
        self._reader.join(5)
        if self.popen.stdout is not None:
            self.popen.stdout.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.append(line)

    @property
    def printed(self) -> str:
        """Everything printed so far, on either stream."""
        return "".join(self._lines)

    def address(self) -> tuple[str, int]:
        """Where it listens, as soon as it says so."""
        match = self.says(self._listens, START_SECONDS)
        return match[1].strip("[]"), int(match[2])

    def says(self, pattern: re.Pattern[str] | str, patience: float = 30.0) -> re.Match[str]:
        """Wait until the output matches."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + patience
        while True:
            match = wanted.search(self.printed)
            if match is not None:
                return match
            ended = self.popen.poll() is not None
            if ended:
                self._reader.join(5)
                match = wanted.search(self.printed)
                assert match is not None, f"it ended with {self.popen.returncode}: {self.printed}"
                return match
            assert time.monotonic() < deadline, f"it did not say {wanted.pattern!r}: {self.printed}"
            time.sleep(0.02)

    def tell(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(signum)

    def ended(self, patience: float = 20.0) -> int:
        """Its exit status, when it has ended."""
        status = self.popen.wait(patience)
        self._reader.join(5)
        return status

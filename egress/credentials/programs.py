"""Runs a program for what it prints: no shell, a time limit, a size limit, and nothing of its output in an error."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence


def output_of(argv: Sequence[str], *, seconds: float, most: int, what: str) -> str:
    """What the program prints, at most `most` bytes. Raises StateError: it does not start, fails, takes too long."""
    try:
        # A session of its own, so that what it starts can be ended with it.
        process = subprocess.Popen(  # noqa: S603 -- what the owner's configuration names
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a command"
        raise StateError(f"{what} does not start: {reason}", hint="name a program by its full path") from None
    late = threading.Event()

    def stop() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        with process:
            data = process.stdout.read(most + 1) if process.stdout is not None else b""
            if len(data) > most:
                _end(process)
    finally:
        timer.cancel()
    if late.is_set():
        raise StateError(f"{what} took more than {seconds:g} seconds", hint="run it by hand to see what it waits for")
    if len(data) > most:
        raise StateError(f"{what} printed more than {most} bytes", hint="have it print the value alone")
    if process.returncode != 0:
        raise StateError(f"{what} ended with status {process.returncode}", hint="run it by hand to see why")
    return data.decode("latin-1")


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

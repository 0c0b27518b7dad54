"""Pipes for splicing, kept for the next bytes: a tunnel holds one only while bytes are in it.

INVARIANT bounded: ten thousand idle tunnels hold no pipe; kept are a few, and only empty ones. A pipe with bytes of one
tunnel in it never reaches another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

KEPT = 64
# Large enough for bulk to move in few calls. An ordinary user may own only so many pages of pipes in all.
SIZE = 1 << 18


class PipePool:
    """Empty pipes, each as (read end, write end)."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._empty: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._empty)

    def take(self) -> tuple[int, int] | None:
        """An empty pipe; None where the process has no descriptor left."""
        if self._empty:
            return self._empty.pop()
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, SIZE)
        return pipe

    def give(self, pipe: tuple[int, int]) -> None:
        """Keep an empty pipe, or close it where enough are kept."""
        if len(self._empty) < self._kept:
            self._empty.append(pipe)
        else:
            self.close_one(pipe)

    def close_one(self, pipe: tuple[int, int]) -> None:
        """Close a pipe that may hold bytes."""
        for end in pipe:
            os.close(end)

    def close(self) -> None:
        """Close all that are kept."""
        while self._empty:
            self.close_one(self._empty.pop())

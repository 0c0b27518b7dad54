"""Watches the files that a policy was made of: once a second, by what they say.

1. A look is cheap: a file whose times, size and inode are those of the last look is not read again.
2. A change is told once it is the same in two looks, so that a file that is being written is not read halfway.
3. A change that was told is not told again, however the load went; the next change is.

What counts is where a path leads, so that a file that is replaced, edited in place, or swapped by a link is one that
changed.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final

from egress.config.recorded import Record, absolute, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

LOOK_SECONDS: Final = 1.0
# More than the loader takes; what follows is not looked at, there or here.
_MOST_BYTES: Final = 64 * 1024 * 1024
# A file that changed so short a time before it was read may change again without its times telling.
_UNSETTLED_NS: Final = 2_000_000_000

type _Times = tuple[int, int, int, int, int]


class Watcher:
    """Looks at files by path. `fingerprints`: as they were when they were read; None: they could not be."""

    def __init__(self, fingerprints: Mapping[Path, str | None]) -> None:
        self._read: dict[Path, str | None] = {}
        self._times: dict[Path, tuple[_Times, str]] = {}
        self._told: dict[Path, str | None] = {}
        self._last: dict[Path, str | None] = {}
        self.was_read(fingerprints, whole=True)

    @property
    def files(self) -> tuple[Path, ...]:
        """What is watched."""
        return tuple(self._read)

    def was_read(self, fingerprints: Mapping[Path, str | None], *, whole: bool) -> None:
        """The files were read. `whole` False: not all, since some could not be used; the others stay watched."""
        self._read = dict(fingerprints) if whole else self._read | dict(fingerprints)
        self._last = self._read
        self._times = {path: seen for path, seen in self._times.items() if path in self._read}

    def look(self) -> bool:
        """Whether the files say something else than when they were read, and did so at the last look."""
        now = {path: self._look_at(path) for path in self._read}
        settled, self._last = now == self._last, now
        if not settled or now in (self._read, self._told):
            return False
        self._told = now
        return True

    def _look_at(self, path: Path) -> str | None:
        times = _times(path)
        if times is None:
            self._times.pop(path, None)
            return None
        known = self._times.get(path)
        if known is not None and known[0] == times:
            return known[1]
        found = fingerprint_of(path)
        if found is not None and time.time_ns() - max(times[0], times[1]) > _UNSETTLED_NS:
            self._times[path] = times, found
        return found


def add_unread(record: Record, files: Iterable[Path]) -> None:
    """Write down files that the loader read in a way of its own."""
    for path in files:
        record.fingerprints.setdefault(absolute(path), fingerprint_of(path))


def fingerprint_of(path: Path) -> str | None:
    """What tells of a change of a file; None: it cannot be read. Never waits for what is no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            return fingerprint(state, file.read(_MOST_BYTES)) if stat.S_ISREG(state.st_mode) else None
    except OSError:
        return None


def _times(path: Path) -> _Times | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev

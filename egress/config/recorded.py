"""What a load reads, file by file: written down as it is read, or given back to it in place of the files.

1. `recording` writes down every file that is asked for, also one that cannot be read, with what tells of a change
2. `replaying` gives back the texts of an earlier load; nothing is read from the disk, and what was not written down
   then is not there
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(slots=True)
class Record:
    """By absolute path: the bytes of each file, and its fingerprint (see `fingerprint`); None: it cannot be read."""

    contents: dict[Path, bytes] = field(default_factory=dict)
    fingerprints: dict[Path, str | None] = field(default_factory=dict)


_record: Final[ContextVar[Record | None]] = ContextVar("record", default=None)
_texts: Final[ContextVar[Mapping[Path, str] | None]] = ContextVar("texts", default=None)


def absolute(path: Path) -> Path:
    """The path under which a file is written down: links stay, since where they lead may change."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - `Path.absolute` keeps `..`


def fingerprint(state: os.stat_result, data: bytes) -> str:
    """What a file says, whose it is, and who may do what with it: what a load makes of it may hang on each."""
    return f"{hashlib.sha256(data).hexdigest()} {state.st_uid} {stat.S_IMODE(state.st_mode):o}"


def note(path: Path, state: os.stat_result | None, data: bytes) -> None:
    """A file was read; `state` None: it could not be."""
    record = _record.get()
    if record is not None:
        record.fingerprints[absolute(path)] = None if state is None else fingerprint(state, data)
        if state is not None:
            record.contents[absolute(path)] = data


def is_replayed() -> bool:
    """Whether files are given back instead of read."""
    return _texts.get() is not None


def replayed(path: Path) -> str | None:
    """The text that is given back for a file; None: there is none."""
    return (_texts.get() or {}).get(absolute(path))


@contextmanager
def recording(record: Record) -> Iterator[None]:
    """Write down what is read within."""
    token = _record.set(record)
    try:
        yield
    finally:
        _record.reset(token)


@contextmanager
def replaying(texts: Mapping[Path, str]) -> Iterator[None]:
    """Give these back for what is read within. They were judged when they were written down: whose, and how open."""
    token = _texts.set(texts)
    try:
        yield
    finally:
        _texts.reset(token)

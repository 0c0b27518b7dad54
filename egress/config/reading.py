"""Reads configuration files from disk, and refuses those that others could have written or that are no text.

A policy decides what a sandbox may do, so a file that the sandbox can change is no policy. Symbolic links are
followed; what counts are the file they end at and every folder on both ways.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from egress.config import recorded
from egress.config.wording import printable
from egress.errors import Problem

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_LIST_BYTES: Final = 64 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Found:
    """What reading gave: the text, or None with at least one problem."""

    text: str | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def read_text(path: Path, *, limit: int = MAX_FILE_BYTES) -> Found:
    """Read a UTF-8 file of at most `limit` bytes. Never raises for anything the file or the folder is."""
    found = Found()
    name = printable(str(path))
    if recorded.is_replayed():
        found.text = recorded.replayed(path)
        if found.text is None:
            found.problems.append(Problem(name, None, "", "this file was not kept", "mend the files themselves"))
        return found
    try:
        data = _read(path, limit, found)
    except OSError as error:
        recorded.note(path, None, b"")
        found.problems.append(Problem(name, None, "", *_os_message(error)))
        return found
    except ValueError:  # a NUL in the path
        found.problems.append(Problem(name, None, "", "this is not a path", "remove the control characters"))
        return found
    if data is not None and not found.problems:
        found.text = _decode(data, name, found)
    return found


def _read(path: Path, limit: int, found: Found) -> bytes | None:
    real = Path(os.path.realpath(path, strict=True))
    # O_NOFOLLOW: the link was resolved above; one that appears since then is somebody racing us.
    # O_NONBLOCK: opening a FIFO must not hang.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        name = printable(str(path))
        if not stat.S_ISREG(state.st_mode):
            recorded.note(path, None, b"")
            found.problems.append(Problem(name, None, "", "this is not a regular file", "give a file's path"))
            return None
        _check_writers(path, real, state, found)
        data = file.read(limit + 1)
        recorded.note(path, state, data)
        if len(data) > limit:
            message = f"the file is larger than {limit // 1024} KB"
            found.problems.append(Problem(name, None, "", message, "split it, or move hosts into `{file: PATH}` lists"))
            return None
        return data


def _check_writers(path: Path, real: Path, state: os.stat_result, found: Found) -> None:
    name = printable(str(path))
    if state.st_mode & stat.S_IWOTH:
        hint = f"run `chmod o-w {printable(str(real))}`"
        found.problems.append(Problem(name, None, "", "every user of this machine can change this file", hint))
    elif state.st_mode & stat.S_IWGRP and state.st_gid != state.st_uid:
        # A group of the owner's own number is the owner's private group, and no one else.
        hint = f"run `chmod g-w {printable(str(real))}` if the sandbox's user may be in it"
        found.warnings.append(Problem(name, None, "", f"group {state.st_gid} can change this file", hint))
    if state.st_uid not in {0, os.geteuid()}:
        hint = "make it belong to root or to the user that runs egress, never to the sandbox's user"
        found.warnings.append(Problem(name, None, "", f"user {state.st_uid} owns this file and can change it", hint))
    for folder in dict.fromkeys([*path.absolute().parents, *real.parents]):
        mode = folder.stat().st_mode
        # In a sticky folder (/tmp) nobody can replace another user's file.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            hint = f"run `chmod o-w {printable(str(folder))}`, or keep the file elsewhere"
            message = f"every user of this machine can replace this file, through the folder {printable(str(folder))}"
            found.problems.append(Problem(name, None, "", message, hint))


def _decode(data: bytes, name: str, found: Found) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        found.problems.append(Problem(name, 1, "", "the file is UTF-16", "save it as UTF-8 without a byte order mark"))
        return None
    if data.startswith(_BOM):
        message = "the file begins with a byte order mark"
        found.problems.append(Problem(name, 1, "", message, "save it as UTF-8 without a byte order mark"))
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found.problems.append(
            Problem(name, line, "", f"byte 0x{data[error.start]:02x} is not UTF-8", "save it as UTF-8")
        )
        return None


def _os_message(error: OSError) -> tuple[str, str]:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return "no such file", "check the path"
        case errno.EACCES | errno.EPERM:
            return "this user may not read the file", "change its owner or mode"
        case errno.EISDIR:
            return "this is a folder", "give a file's path"
        case errno.ELOOP:
            return "the path is a loop of symbolic links", "give the file itself"
        case _:
            return f"cannot be read ({(error.strerror or 'unknown error').lower()})", ""

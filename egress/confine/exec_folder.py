"""The folder of one start, `exec/NAME` in the state folder; what a killed one left is taken away by the next."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

from egress.errors import StartError, StateError
from egress.server.control import claim

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "exec"


def make_run_folder(state_dir: Path) -> Path:
    """A new folder, named after this process. Raises StateError."""
    folder = state_dir / FOLDER
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        clean(folder)
        own = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        own.mkdir(mode=0o700)
    except OSError as error:
        raise StateError(
            f"cannot make a folder in `{folder}`: {error.strerror}", hint="name another state folder with --state-dir"
        ) from error
    return own


def clean(folder: Path) -> None:
    """Take away the folders of those that are gone: no such process, and nobody holds the folder's lock."""
    for left in folder.iterdir():
        pid, _, _ = left.name.partition("-")
        if pid.isdecimal() and not _lives(int(pid)):
            with contextlib.suppress(StartError, OSError):
                lock = claim(left)
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

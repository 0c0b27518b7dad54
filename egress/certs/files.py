"""Files that decide whom a TLS client trusts: opened without following links, checked by descriptor, replaced whole.

The rules of this file:

1. A file is opened first and checked afterwards, through its descriptor, so that what was checked is what is read.
2. A file is never written in place: a reader sees the old one or the new one, never a part.
3. Names are resolved below an open folder, so that swapping a folder on the path changes nothing midway.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from typing import TYPE_CHECKING

from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 64 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@contextlib.contextmanager
def opened_folder(path: Path, *, create: bool, option: str = "--ca-dir") -> Iterator[int]:
    """The descriptor of a folder that nobody but its owner (us or root) can write; made with mode 0700 on `create`.

    Raises `FileNotFoundError` if it is not there and `create` is off, `StateError` if it must not be used. `option` is
    the command line's that names it.
    """
    if create:
        try:
            # The parent may be the state folder, which holds more than what is meant for everybody.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        except OSError as error:
            raise StateError(
                f"cannot make `{path}`: {error.strerror}", hint=f"name a folder that can be written, with {option}"
            ) from error
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise StateError(
                f"`{path}` is a link or no folder", hint=f"name the folder itself, with {option}"
            ) from error
        raise StateError(f"cannot open `{path}`: {error.strerror}", hint="make it readable for this user") from error
    try:
        _check_owner(path, os.fstat(descriptor), forbidden=_WRITABLE_BY_OTHERS, advice=f"chmod 700 '{path}'")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: int, name: str) -> Iterator[None]:
    """An exclusive lock among the processes that use `folder`, waited for; the kernel frees it when a process dies."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def exists(folder: int, name: str) -> bool:
    """Whether `folder` has an entry `name`, be it a link that leads nowhere."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def read_private(folder: int, path: Path) -> bytes:
    """The bytes of the file `path.name` in `folder`, which only its owner may be able to read. Raises `StateError`."""
    return _read(folder, path, forbidden=_OPEN_TO_OTHERS, advice=f"chmod 600 '{path}'")


def read_public(folder: int, path: Path) -> bytes:
    """The bytes of the file `path.name` in `folder`, which nobody else may be able to write. Raises `StateError`."""
    return _read(folder, path, forbidden=_WRITABLE_BY_OTHERS, advice=f"chmod 644 '{path}'")


def replace(folder: int, name: str, data: bytes, *, mode: int) -> None:
    """Put `data` at `name` in `folder` at once and durably, with exactly `mode`, whatever the umask."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    # O_EXCL: whoever guesses the name cannot have us write through a link of theirs.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def write_public(path: Path, data: bytes) -> None:
    """Put `data` at `path` at once, mode 0644, with the folders it needs. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        replace(folder, path.name, data, mode=0o644)
    finally:
        os.close(folder)


def _read(folder: int, path: Path, *, forbidden: int, advice: str) -> bytes:
    try:
        descriptor = os.open(path.name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StateError(f"`{path}` is a symbolic link", hint="put the file itself there") from error
        raise StateError(f"cannot open `{path}`: {error.strerror}", hint="make it readable for this user") from error
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise StateError(f"`{path}` is no regular file", hint="put the file itself there")
        _check_owner(path, state, forbidden=forbidden, advice=advice)
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise StateError(f"`{path}` is larger than {MAX_BYTES // 1024} KiB", hint="put one PEM block there")
    return data


def _check_owner(path: Path, state: os.stat_result, *, forbidden: int, advice: str) -> None:
    # Root may own what an unprivileged proxy uses; anybody else could swap the CA under us.
    if state.st_uid not in {os.geteuid(), 0}:
        raise StateError(
            f"`{path}` belongs to user {state.st_uid}, not to the proxy's user {os.geteuid()}",
            hint=f"chown {os.geteuid()} '{path}'",
        )
    if state.st_mode & forbidden:
        mode = stat.S_IMODE(state.st_mode)
        raise StateError(f"`{path}` is open to other users (mode {mode:04o})", hint=advice)

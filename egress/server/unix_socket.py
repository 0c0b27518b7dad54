"""A unix socket to listen on: a file in whose place nobody else can put another, taken away at the end.

1. folder   it belongs to root or to the proxy's user, as does all above it, and nobody else may write there: whoever
            could replace the socket would be the proxy to its clients, and see their tokens
2. lock     `PATH.lock` is held for as long as the proxy lives, by no other process: whose lock is free is dead
3. place    a socket that a dead proxy left behind is replaced; one that somebody serves, and what is no socket, is an
            error
4. mode     until it has its own permissions, nobody but the proxy's user can connect
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.errors import StartError

if TYPE_CHECKING:
    from egress.config import UnixListener

_WRITE_FOR_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class UnixSocket:
    """A bound socket, which accepts nothing yet. Raises StartError where it cannot, or must not, be."""

    def __init__(self, listener: UnixListener, mode: int) -> None:
        self._path = Path(listener.path)
        self._closed = False
        _check_folder(self._path)
        self._lock = _lock(self._path)
        try:
            _make_room(self._path)
            self.sock = _bind(self._path, mode)
        except BaseException:
            self._let_go()
            raise
        self._file = _identity(self._path)

    def close(self) -> None:
        """Leave nothing of it behind. Once more, it does nothing: what is there by then is another's."""
        if self._closed:
            return
        self._closed = True
        self.sock.close()
        if self._file is not None and _identity(self._path) == self._file:
            self._path.unlink(missing_ok=True)
        self._let_go()

    def leave(self) -> None:
        """In a forked process: the lock is the parent's alone."""
        os.close(self._lock)

    def _let_go(self) -> None:
        with contextlib.suppress(OSError):
            _lock_path(self._path).unlink()
        os.close(self._lock)


def _check_folder(path: Path) -> None:
    folder = path.parent.resolve()
    for place in (folder, *folder.parents):
        try:
            state = place.stat()
        except FileNotFoundError as error:
            raise _unusable(path, f"the folder `{place}` is not there", f"make it: `mkdir -p {folder}`") from error
        except OSError as error:
            raise _unusable(path, f"the folder `{place}` cannot be looked at: {error.strerror}") from error
        if not stat.S_ISDIR(state.st_mode):
            raise _unusable(path, f"`{place}` is no folder")
        if state.st_uid not in {0, os.geteuid()}:
            hint = "put the socket into a folder of the proxy's own user"
            raise _unusable(path, f"the folder `{place}` belongs to another user, who could replace the socket", hint)
        # Above, where only who owns an entry can take it away, others do no harm: /tmp, for one.
        shielded = place != folder and state.st_mode & stat.S_ISVTX
        if state.st_mode & _WRITE_FOR_OTHERS and not shielded:
            hint = f"put the socket into a folder of its own, or say `chmod go-w {place}`"
            raise _unusable(path, f"other users may write to the folder `{place}`, and replace the socket", hint)


def _lock(path: Path) -> int:
    """The lock's descriptor, with the lock."""
    name = _lock_path(path)
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, f"its lock `{name}` cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise _served(path) from error
        # Whoever had it may have removed the file meanwhile; then it locks nothing.
        held = os.fstat(descriptor)
        if _identity(name) == (held.st_dev, held.st_ino):
            return descriptor
        os.close(descriptor)


def _make_room(path: Path) -> None:
    """Take away what a dead proxy left."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(state.st_mode):
        raise _unusable(path, "something else has this name, and is no socket", "name another path, or move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - the method takes it so
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise _served(path) from error
        else:
            raise _served(path)


def _bind(path: Path, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        path.chmod(mode)
    except OSError as error:
        sock.close()
        raise _unusable(path, os.strerror(error.errno or 0)) from error
    finally:
        os.umask(before)
    return sock


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.lstat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _served(path: Path) -> StartError:
    return _unusable(path, "another process serves it", "stop that one, or name another path")


def _unusable(path: Path, why: str, hint: str = "name another path, as `unix:/run/egress/proxy.sock`") -> StartError:
    return StartError(f"cannot listen on unix:{path}: {why}", hint=hint)

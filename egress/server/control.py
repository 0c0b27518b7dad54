"""The control socket: `STATE_DIR/control.sock`, on which `egress reload` and `egress status` ask the supervisor.

1. Only the proxy's own user and root are heard: the socket's mode says so, and the kernel names who connected.
2. One line of JSON is a request, one line the answer, then the connection ends.
3. INVARIANT bounded: so many clients, so many bytes, so much time (see `askers`).
4. One proxy serves a state folder. The folder's lock is held for as long as the supervisor lives, by no other process;
   so a socket that is there without it was left behind by a dead one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from egress.errors import StartError
from egress.server.askers import AT_MOST, Asker, Askers, Manners, TooMuch
from egress.server.control_client import MOST_ANSWERED, MOST_ASKED, SOCKET_NAME, short_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from egress.server.events import Events

logger = logging.getLogger(__name__)

_CREDENTIALS: Final = struct.Struct("3i")

type Answer = Mapping[str, Any]
# Gets the request, what is to be called with the answer, then or later, and who asks, for the record.
type Handler = Callable[[Mapping[str, Any], Callable[[Answer], None], str], None]


def claim(state_dir: Path) -> int:
    """A descriptor that holds the lock of a state folder. Raises StartError if a living proxy has it."""
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StartError(
            f"another proxy runs with the state folder `{state_dir}`",
            hint="stop it, or give this one a folder of its own with --state-dir",
        ) from error
    return descriptor


@dataclass(frozen=True, slots=True)
class _Said:
    """A line: the request that it is, if it is one."""

    request: Answer | None


class Control:
    """Serves the socket of a state folder that was claimed. `handle` answers requests."""

    def __init__(self, state_dir: Path, events: Events, handle: Handler) -> None:
        self._state_dir = state_dir
        self._handle = handle
        self._listening = _listen(state_dir)
        manners = Manners("control socket", self._admit, _read, self._asked)
        self._askers: Askers[_Said] = Askers(self._listening, events, manners)

    def close(self) -> None:
        """Ask nobody in any more, end every connection, and leave no socket behind."""
        self._askers.close()
        self._listening.close()
        with contextlib.suppress(OSError):
            (self._state_dir / SOCKET_NAME).unlink()

    def close_inherited(self) -> None:
        """In a forked process: keep nothing of it open."""
        self._listening.close()
        self._askers.close_inherited()

    def _admit(self, sock: socket.socket) -> str | None:
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid in {0, os.geteuid()} and self._askers.count < AT_MOST:
            return f"control socket, uid {uid}"
        logger.warning("control socket: a client of user %d is turned away", uid)
        return None

    def _asked(self, client: Asker[_Said], said: _Said) -> None:
        if said.request is not None:
            self._handle(said.request, lambda answer: self._answer(client, answer), client.who)
        else:
            self._answer(client, {"error": "this is no request"})

    def _answer(self, client: Asker[_Said], answer: Answer) -> None:
        data = json.dumps(answer).encode() + b"\n"
        if len(data) > MOST_ANSWERED:
            data = b'{"error": "the answer is too long"}\n'
        self._askers.answer(client, data)


def _read(said: bytearray) -> _Said | None:
    """What a whole line says."""
    if len(said) > MOST_ASKED:
        raise TooMuch
    if b"\n" not in said:
        return None
    try:
        request = json.loads(bytes(said))
    except (ValueError, RecursionError):
        request = None
    return _Said(request if isinstance(request, dict) else None)


def _listen(state_dir: Path) -> socket.socket:
    """The listening socket, in place of one that a dead proxy left behind. Raises StartError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody else may connect, from the moment that it is there.
    before = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            (state_dir / SOCKET_NAME).unlink()
        with short_path(state_dir) as path:
            sock.bind(path)
        sock.listen(AT_MOST)
        sock.setblocking(False)  # noqa: FBT003 - the method takes it so
    except OSError as error:
        sock.close()
        raise StartError(
            f"cannot make the control socket `{state_dir / SOCKET_NAME}`: {error.strerror}",
            hint="name a folder on a local disk with --state-dir",
        ) from error
    finally:
        os.umask(before)
    return sock

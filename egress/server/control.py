"""The control socket: `STATE_DIR/control.sock`, on which `egress reload` and `egress status` ask the supervisor.

1. Only the proxy's own user and root are heard: the socket's mode says so, and the kernel names who connected.
2. One line of JSON is a request, one line the answer, then the connection ends.
3. INVARIANT bounded: so many clients, so many bytes, so much time. Nothing here waits for a client: whoever is slow,
   silent or says what is no request is closed.
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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from egress.errors import StartError
from egress.server.control_client import MOST_ANSWERED, MOST_ASKED, SOCKET_NAME, short_path
from egress.server.events import WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from egress.server.events import Events, Timer

logger = logging.getLogger(__name__)

_CLIENTS_AT_MOST: Final = 16
# To say what is wanted, and to take the answer, each.
_CLIENT_SECONDS: Final = 5.0
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


@dataclass(slots=True, eq=False)
class _Client:
    sock: socket.socket
    timer: Timer | None
    who: str
    said: bytearray = field(default_factory=bytearray)
    asked: bool = False
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class Control:
    """Serves the socket of a state folder that was claimed. `handle` answers requests."""

    def __init__(self, state_dir: Path, events: Events, handle: Handler) -> None:
        self._state_dir = state_dir
        self._events = events
        self._handle = handle
        self._clients: set[_Client] = set()
        self._listening = _listen(state_dir)
        events.watch(self._listening, self._accept)

    def close(self) -> None:
        """Ask nobody in any more, end every connection, and leave no socket behind."""
        for client in tuple(self._clients):
            self._end(client)
        self._events.forget(self._listening)
        self._listening.close()
        with contextlib.suppress(OSError):
            (self._state_dir / SOCKET_NAME).unlink()

    def close_inherited(self) -> None:
        """In a forked process: keep nothing of it open."""
        self._listening.close()
        for client in self._clients:
            client.sock.close()

    # one client

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Most likely no descriptor is left: trying again at once would be all that the supervisor does.
            logger.warning("control socket: a client cannot be accepted: %s", error.strerror)
            self._events.forget(self._listening)
            self._events.later(_CLIENT_SECONDS, self._resume)
            return
        sock.setblocking(False)  # noqa: FBT003 - the method takes it so
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in {0, os.geteuid()} or len(self._clients) >= _CLIENTS_AT_MOST:
            logger.warning("control socket: a client of user %d is turned away", uid)
            sock.close()
            return
        client = _Client(sock, None, f"control socket, uid {uid}")
        self._clients.add(client)
        self._limit(client)
        self._events.watch(sock, lambda: self._readable(client))

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._events.watch(self._listening, self._accept)

    def _limit(self, client: _Client) -> None:
        self._events.cancel(client.timer)
        client.timer = self._events.later(_CLIENT_SECONDS, lambda: self._end(client))

    def _end(self, client: _Client) -> None:
        self._clients.discard(client)
        self._events.cancel(client.timer)
        self._events.forget(client.sock)
        client.sock.close()

    def _readable(self, client: _Client) -> None:
        try:
            data = client.sock.recv(MOST_ASKED)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.said += data
        # Who asked has nothing more to say: another word, or the end, and nobody waits for the answer.
        if not data or client.asked or len(client.said) > MOST_ASKED:
            self._end(client)
        elif b"\n" in data:
            self._asked(client)

    def _asked(self, client: _Client) -> None:
        client.asked = True
        # From here on it is we who take our time.
        self._events.cancel(client.timer)
        try:
            request = json.loads(bytes(client.said))
        except (ValueError, RecursionError):
            request = None
        if isinstance(request, dict):
            self._handle(request, lambda answer: self._answer(client, answer), client.who)
        else:
            self._answer(client, {"error": "this is no request"})

    def _answer(self, client: _Client, answer: Answer) -> None:
        if client not in self._clients:
            return
        data = json.dumps(answer).encode() + b"\n"
        if len(data) > MOST_ANSWERED:
            data = b'{"error": "the answer is too long"}\n'
        client.answer = memoryview(data)
        self._limit(client)
        self._events.watch(client.sock, lambda: self._writable(client), WRITE)

    def _writable(self, client: _Client) -> None:
        try:
            client.answer = client.answer[client.sock.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.answer = memoryview(b"")
        if not client.answer:
            self._end(client)


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
        sock.listen(_CLIENTS_AT_MOST)
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

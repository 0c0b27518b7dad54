"""Messages between the processes of one `egress exec`: pickled, each whole, over a pair of sockets made before a fork.

Both ends are this program's own: the command has neither, since all descriptors but its three are closed before it.
"""

from __future__ import annotations

import pickle
import socket
from enum import StrEnum
from typing import Any, Final

# Beyond every plan that there is: the environment alone may have 2 MiB.
_LARGEST: Final = 16 * 1024 * 1024
_LENGTH: Final = 4
_DESCRIPTORS: Final = 8


class Word(StrEnum):
    """From the inside: LISTENING (descriptors), TERMINAL (a descriptor), STARTED, STOPPED, ENDED, FAILED.

    To the inside: GO with the plan, SIGNAL with a number, CONTINUE.
    """

    LISTENING = "listening"
    TERMINAL = "terminal"
    STARTED = "started"
    STOPPED = "stopped"
    ENDED = "ended"
    FAILED = "failed"
    GO = "go"
    SIGNAL = "signal"
    CONTINUE = "continue"


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends."""
        ours, theirs = socket.socketpair()
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """Readable when a message, or the end, is there."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this end."""
        self._sock.close()

    def send(self, word: Word, value: object = None, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message. Raises OSError if nobody takes it any more."""
        body = pickle.dumps((str(word), value))
        socket.send_fds(self._sock, [len(body).to_bytes(_LENGTH, "big")], descriptors)
        self._sock.sendall(body)

    def receive(self) -> tuple[Word, Any, list[int]] | None:
        """The next message, with its descriptors; None: the other end is gone. Waits."""
        head, descriptors, _, _ = socket.recv_fds(self._sock, _LENGTH, _DESCRIPTORS)
        head += self._exactly(_LENGTH - len(head)) if head else b""
        length = int.from_bytes(head, "big")
        body = self._exactly(length) if length <= _LARGEST else b""
        if not body or len(body) < length:
            return None
        word, value = pickle.loads(body)  # noqa: S301 - a process forked from this one, or the one it was forked from
        return Word(word), value, descriptors

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            piece = self._sock.recv(size - len(found))
            if not piece:
                break
            found += piece
        return bytes(found)

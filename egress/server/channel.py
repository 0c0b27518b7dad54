"""Messages between our own processes: each whole or not at all, over a socket pair that never makes its sender wait.

1. One message is one packet: a process that is killed leaves no half of one behind.
2. A pair joins two processes for as long as both live, so its end says at once that the other is gone, and nothing
   from a former process is taken for a later one's.
3. Values are plain (numbers, text, bytes, tuples, lists). Only the process that forked the others may send more than
   values: a descriptor.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import marshal
import os
import socket
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# What a message may be at most, in bytes; the kernel takes it whole well below its default for a socket's buffer.
LARGEST: Final = 96 * 1024
_TURN = 64
_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
_DESCRIPTORS = socket.CMSG_SPACE(4 * array.array("i").itemsize)

type Values = tuple[Any, ...]


class Word(StrEnum):
    """The first value of every message: what it says."""

    # The supervisor and each other process.
    READY = "ready"
    FAILED = "failed"
    LINK = "link"
    LINKED = "linked"
    NOTE = "note"
    PREPARE = "prepare"
    PREPARED = "prepared"
    COMMIT = "commit"
    COMMITTED = "committed"
    CUT = "cut"
    DRAIN = "drain"
    END = "end"
    STATUS = "status"
    # A process that judges and the hub.
    ROWS = "rows"
    RECORDED = "recorded"
    REFUSED = "refused"
    AUDIT = "audit"
    ASK = "ask"
    ANSWER = "answer"
    HELD = "held"
    TAKE = "take"
    GRANT = "grant"
    GIVE = "give"
    ADMIT = "admit"
    BYTES = "bytes"
    COUNTED = "counted"
    LEAVE = "leave"
    UNUSED = "unused"
    SPENT = "spent"
    FETCH = "fetch"
    FETCHED = "fetched"
    QUESTION = "question"
    REPLY = "reply"
    # A worker and the mitm process.
    HANDED = "handed"


class Gone(Exception):  # noqa: N818 - it is no error that a process ends
    """The process at the other end is gone."""


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new channel, non-blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)  # noqa: FBT003 - the method takes it so
    return ends


def encode(word: Word, *values: Any) -> bytes:
    """A message as bytes."""
    return marshal.dumps((word.value, *values))


def send(end: socket.socket, data: bytes, descriptor: int | None = None) -> bool:
    """Send an encoded message, and a copy of a descriptor with it. False: no room now. Raises Gone."""
    ancillary = []
    if descriptor is not None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    try:
        end.sendmsg([data], ancillary)
    except OSError as error:
        if error.errno in _NO_ROOM:
            return False
        raise Gone from error
    return True


def receive(end: socket.socket) -> tuple[Values, list[int]] | None:
    """The next message with its descriptors, which are the caller's to close; None: nothing is there.

    Raises Gone, also for what is no message.
    """
    try:
        data, ancillary, _, _ = _receive(end)
    except BlockingIOError:
        return None
    except OSError as error:
        raise Gone from error
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    values = _decode(data)
    if values is None:
        close_all(descriptors)
        raise Gone
    return values, list(descriptors)


def _receive(end: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
    try:
        return end.recvmsg(LARGEST, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # The other process died without reading all that we said. That is told first, and once; what it said itself
        # is still there.
        return end.recvmsg(LARGEST, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)


def _decode(data: bytes) -> Values | None:
    """The values of a message; None for what is none: the end of a channel, or a message that was cut."""
    try:
        values = marshal.loads(data)  # noqa: S302 - from a process of our own
    except (ValueError, EOFError, TypeError):
        return None
    return values if isinstance(values, tuple) and values else None


def close_all(descriptors: array.array[int] | list[int]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Line:
    """One end of a channel on an event loop. What has no room waits here, in order; its senders bound it.

    `on_message` gets the values and descriptors of each message. `on_gone` is called once, when the other process is
    gone or a message could not be acted on; the line is closed then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        on_message: Callable[[Values, list[int]], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._end = end
        self._on_message = on_message
        self._on_gone = on_gone
        self._waiting: deque[bytes] = deque()
        self._closed = False
        loop.add_reader(end.fileno(), self._readable)

    def say(self, word: Word, *values: Any) -> None:
        """Send a message, now or as soon as there is room."""
        self.send(encode(word, *values))

    def send(self, data: bytes) -> None:
        """Send an encoded message, now or as soon as there is room."""
        if self._closed:
            return
        if self._waiting:
            self._waiting.append(data)
            return
        try:
            if send(self._end, data):
                return
        except Gone:
            # What the other process said last is still to be read.
            return
        self._waiting.append(data)
        self._loop.add_writer(self._end.fileno(), self._writable)

    def close(self) -> None:
        """Close our end, without a word to `on_gone`."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
            self._waiting.clear()
            self._end.close()

    def _readable(self) -> None:
        try:
            for _ in range(_TURN):
                message = None if self._closed else receive(self._end)
                if message is None:
                    return
                self._on_message(*message)
            # Whoever is gone by now is told of once: what it said last must not wait to be told of again.
            self._loop.call_soon(self._readable)
        except Gone:
            self._lose()
        except Exception:  # INVARIANT fail-closed: who does not understand its neighbour stops working with it
            logger.exception("a message of another process could not be acted on")
            self._lose()

    def _writable(self) -> None:
        try:
            while self._waiting and send(self._end, self._waiting[0]):
                self._waiting.popleft()
        except Gone:
            self._waiting.clear()
        if not self._waiting:
            self._loop.remove_writer(self._end.fileno())

    def _lose(self) -> None:
        if not self._closed:
            self.close()
            self._on_gone()

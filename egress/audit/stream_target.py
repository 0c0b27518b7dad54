"""Where the stream goes: standard output, or a syslog receiver by unix socket, UDP (RFC 5426) or TCP (RFC 6587).

1. `send` returns once the row is handed over; it raises OSError where the row should be tried again
2. it waits for a slow reader as long as it takes, but looks at `stopped` while it does
3. TCP frames by counting octets (RFC 6587, section 3.4.1), so that nothing in a message can end it
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Final, Protocol

from egress.audit.stream_text import SyslogText, json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit.row import Row

type Stopped = Callable[[], bool]

_CONNECT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2
# What a pipe that is ready takes without blocking (POSIX: PIPE_BUF), so that a reader that stalls holds nobody.
_PIECE: Final = select.PIPE_BUF
# What receivers of datagrams take: rsyslog's and journald's defaults are above it.
LONGEST_DATAGRAM: Final = 8_000


class Target(Protocol):
    """Takes rows one at a time."""

    def send(self, table: str, row: Row, stopped: Stopped) -> None:
        """Hand a row over. Raises OSError: to be tried again."""

    def close(self) -> None:
        """Let go of what is open."""


class Output:
    """A descriptor of our own process, standard output: a line of JSON a row."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def send(self, table: str, row: Row, stopped: Stopped) -> None:
        """Write the line."""
        left = memoryview(json_text(table, row).encode("ascii") + b"\n")
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        while left:
            if not ready.poll(_LOOK_SECONDS * 1000):
                if stopped():
                    raise TimeoutError("nobody reads standard output")
                continue
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(self._descriptor, left[:_PIECE]) :]

    def close(self) -> None:
        """The descriptor is the process's."""


class Datagrams:
    """A message a datagram. `address`: a path (unix), or host and port (UDP)."""

    def __init__(self, address: str | tuple[str, int], text: SyslogText) -> None:
        self._address = address
        self._text = text
        self._text.longest = LONGEST_DATAGRAM
        self._socket: socket.socket | None = None

    def send(self, table: str, row: Row, stopped: Stopped) -> None:
        """Send the datagram; a unix socket whose receiver is behind is waited for."""
        if self._socket is None:
            self._socket = self._opened()
        message = self._text.message(table, row)
        try:
            while not stopped():
                with contextlib.suppress(TimeoutError):
                    self._socket.send(message)
                    self._text.sent()
                    return
        except OSError:
            self.close()
            raise
        raise TimeoutError("the receiver takes nothing")

    def close(self) -> None:
        """Close the socket; the next row opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        if isinstance(self._address, str):
            family, address = socket.AF_UNIX, self._address
            made = socket.socket(family, socket.SOCK_DGRAM)
        else:
            found = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)
            family, _, _, _, address = found[0]  # type: ignore[assignment]
            made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            made.settimeout(_LOOK_SECONDS)
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made


class Connection:
    """Messages over TCP, each with its length in front."""

    def __init__(self, address: tuple[str, int], text: SyslogText) -> None:
        self._address = address
        self._text = text
        self._socket: socket.socket | None = None

    def send(self, table: str, row: Row, stopped: Stopped) -> None:
        """Send the message whole; after a failure the next try begins it anew, on a connection of its own."""
        try:
            opened = self._opened()
            message = self._text.message(table, row)
            left = memoryview(b"%d %s" % (len(message), message))
            while left:
                if stopped():
                    raise TimeoutError("the receiver takes nothing")
                with contextlib.suppress(TimeoutError):
                    left = left[opened.send(left) :]
            self._text.sent()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; the next row makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is not None and self._is_over(self._socket):
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, _CONNECT_SECONDS)
            self._socket.settimeout(_LOOK_SECONDS)
        return self._socket

    @staticmethod
    def _is_over(opened: socket.socket) -> bool:
        """Whether the receiver has closed: the first message to it would be lost without an error."""
        readable, _, _ = select.select([opened], [], [], 0)
        return bool(readable) and not opened.recv(4096)

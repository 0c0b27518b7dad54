"""Clients of a listening socket that ask one thing each and get one answer, beside everything else of the supervisor.

1. each has so long to say what it wants, and so long to take the answer; nothing here waits for any of them
2. who has asked has nothing more to say: another word, or the end, and nobody waits for the answer
3. where a client cannot be accepted, most likely for want of a descriptor, the listener rests for a while

INVARIANT bounded: so many clients, so much time; how many bytes may be said is for `read` to bound.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.server.events import WRITE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from egress.server.events import Events, Timer

logger = logging.getLogger(__name__)

AT_MOST: Final = 16
# To say what is wanted, and to take the answer, each.
_SECONDS: Final = 5.0
_READ: Final = 65_536


class TooMuch(Exception):  # noqa: N818 -- told by `read`: it ends the client without a word
    """More was said than anybody asks."""


@dataclass(slots=True, eq=False)
class Asker[Request]:
    """One client. `who`: for the record. `asked`: what it wants, once all of that was said."""

    sock: socket.socket
    who: str
    timer: Timer | None = None
    said: bytearray = field(default_factory=bytearray)
    asked: Request | None = None
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


@dataclass(frozen=True, slots=True)
class Manners[Request]:
    """What differs. `name`: for the log. `admit`: who a client is, or None to turn it away.

    `read`: what is asked, or None while it is not all there; raises `TooMuch`. `asked` sees to the answer.
    """

    name: str
    admit: Callable[[socket.socket], str | None]
    read: Callable[[bytearray], Request | None]
    asked: Callable[[Asker[Request], Request], None]


class Askers[Request]:
    """Serves a listening socket, whose owner closes it."""

    def __init__(self, listening: socket.socket, events: Events, manners: Manners[Request]) -> None:
        self._listening = listening
        self._events = events
        self._manners = manners
        # In the order in which they came.
        self._clients: dict[Asker[Request], None] = {}
        events.watch(listening, self._accept)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._clients)

    def make_room(self) -> None:
        """Whoever holds connections open and says nothing must not keep the others out: the first of them goes."""
        silent = next((client for client in self._clients if client.asked is None), None)
        if silent is not None:
            self.end(silent)

    def answer(self, client: Asker[Request], data: bytes) -> None:
        """Send the answer, and end. A client that is gone needs none."""
        if client not in self._clients:
            return
        client.answer = memoryview(data)
        self._limit(client)
        self._events.watch(client.sock, lambda: self._writable(client), WRITE)

    def end(self, client: Asker[Request]) -> None:
        """End a connection."""
        self._clients.pop(client, None)
        self._events.cancel(client.timer)
        self._events.forget(client.sock)
        client.sock.close()

    def close(self) -> None:
        """Accept nobody any more, and end every connection."""
        for client in tuple(self._clients):
            self.end(client)
        self._events.forget(self._listening)

    def close_inherited(self) -> None:
        """In a forked process: keep no connection open."""
        for client in self._clients:
            client.sock.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Trying again at once would be all that the supervisor does.
            logger.warning("%s: a client cannot be accepted: %s", self._manners.name, error.strerror)
            self._events.forget(self._listening)
            self._events.later(_SECONDS, self._resume)
            return
        sock.setblocking(False)  # noqa: FBT003 - the method takes it so
        who = self._manners.admit(sock)
        if who is None:
            sock.close()
            return
        client: Asker[Request] = Asker(sock, who)
        self._clients[client] = None
        self._limit(client)
        self._events.watch(sock, lambda: self._readable(client))

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._events.watch(self._listening, self._accept)

    def _limit(self, client: Asker[Request]) -> None:
        self._events.cancel(client.timer)
        client.timer = self._events.later(_SECONDS, lambda: self.end(client))

    def _readable(self, client: Asker[Request]) -> None:
        try:
            data = client.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or client.asked is not None:
            self.end(client)
            return
        client.said += data
        try:
            asked = self._manners.read(client.said)
        except TooMuch:
            self.end(client)
            return
        if asked is not None:
            client.asked = asked
            # From here on it is we who take our time.
            self._events.cancel(client.timer)
            self._manners.asked(client, asked)

    def _writable(self, client: Asker[Request]) -> None:
        try:
            client.answer = client.answer[client.sock.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.answer = memoryview(b"")
        if not client.answer:
            self.end(client)

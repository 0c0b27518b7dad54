"""A request's body while it is held to be judged: how much of it, how long, and what is known without reading it.

1. a lane reads a body only where the gate says that a rule asks for it (`BodyWanted`), and then the whole of it
2. what was judged is what goes up: the held bytes, in a framing of our own
3. INVARIANT bounded: one body, and all bodies of a process together, have a limit; over it the request is refused
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from egress.policy import Protocol, Reason, Refusal, read_body
from egress.wire.head import ContentLength, NoBody

if TYPE_CHECKING:
    from egress.gate.body import Buffer
    from egress.policy import Request
    from egress.wire.head import Framing

_TOO_LARGE = Refusal(Reason.LIMIT_BODY, "")
_NO_ROOM = Refusal(Reason.LIMIT_MEMORY, "the proxy holds as many bodies as it may")
_WEBSOCKET = frozenset({Protocol.WS, Protocol.WSS})


@dataclass(frozen=True, slots=True)
class BodyWanted:
    """The answer to a head where a rule asks for the body: nothing is allowed; the lane reads it, and asks again."""


BODY_WANTED = BodyWanted()


@dataclass(slots=True)
class BodyRoom:
    """The bytes of bodies that a process may hold. `most` is that of one body."""

    most: int = 1_000_000
    left: int = 64_000_000


@dataclass(slots=True, eq=False)
class HeldBody:
    """One body as it comes. Whoever holds it gives it back; so does its end."""

    room: BodyRoom
    data: bytearray = field(default_factory=bytearray)
    _taken: int = 0

    def add(self, data: Buffer) -> Refusal | None:
        """Hold more of it, or say why that cannot be."""
        problem = self.grow(self._taken + len(data))
        if problem is None:
            self.data += data
        return problem

    def grow(self, size: int) -> Refusal | None:
        """Take the room for so many bytes in all, which somebody else holds, or say why that cannot be."""
        if size > self.room.most:
            return _TOO_LARGE
        more = size - self._taken
        if more > self.room.left:
            return _NO_ROOM
        self.room.left -= more
        self._taken = size
        return None

    def become(self, data: bytes) -> None:
        """What goes up of it is another body, which adds no more than a secret may."""
        self.room.left -= len(data) - self._taken
        self._taken = len(data)
        self.data = bytearray(data)

    def give_back(self) -> None:
        """Free what it took; once is enough, and more does nothing."""
        self.room.left += self._taken
        self._taken = 0

    def __del__(self) -> None:
        """However the way of a request ends, its room is free again."""
        self.give_back()


def unread_bytes(framing: Framing) -> bytes | None:
    """The whole of a body that is not read: there is none, or None where it is too large to be read."""
    return b"" if isinstance(framing, NoBody) or framing == ContentLength(0) else None


def judged_whole(request: Request, data: bytes) -> Request:
    """The request with what its body, all of which is here, asks for."""
    return replace(request, body=read_body(request, data))


def judged_unread(request: Request, framing: Framing, most: int, *, framed: bool = True) -> Request | None:
    """The request with what is known of its body before a byte of it is read; None: it has to be read.

    `framed` False: of HTTP/2, where a head without a length may have a body.
    """
    if request.protocol in _WEBSOCKET or (isinstance(framing, ContentLength) and framing.length > most):
        return replace(request, body=read_body(request, None))
    if framed and unread_bytes(framing) is not None:
        return replace(request, body=read_body(request, b""))
    return None

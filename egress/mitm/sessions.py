"""TLS sessions with upstreams, kept so that the next connection to the same place need not begin from nothing.

A handshake that resumes a session verifies no certificate: it goes on with whom the session was made.

1. INVARIANT one-name: a session is offered only to the place that it was made with: sandbox, host, port and address
2. only one whose handshake our verifying context did is kept
3. what was verified is verified anew after a while, however often it was resumed
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Callable

VERIFIED_SECONDS = 3600.0
SESSIONS_AT_MOST = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Whom a session is with, on whose behalf."""

    sandbox: str
    host: str
    port: int
    address: str


@dataclass(slots=True, eq=False)
class Handshake:
    """A connection to a place. `verified_at`: when the session that it was offered was verified."""

    place: Place
    connection: SSL.Connection
    verified_at: float | None


class Sessions:
    """The sessions of one process, the least lately used thrown out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Place, tuple[SSL.Session, float]] = OrderedDict()

    def begin(self, place: Place, connection: SSL.Connection) -> Handshake:
        """Offer the session with this place, if there is one, before the handshake."""
        known = self._known.get(place)
        if known is None:
            return Handshake(place, connection, None)
        session, verified_at = known
        if self._clock() - verified_at >= VERIFIED_SECONDS:
            del self._known[place]
            return Handshake(place, connection, None)
        connection.set_session(session)
        self._known.move_to_end(place)
        return Handshake(place, connection, verified_at)

    def keep(self, handshake: Handshake) -> None:
        """Keep the session of a verified connection; TLS 1.3 gives it no earlier than with the first answer."""
        session = handshake.connection.get_session()
        if session is None:
            return
        verified_at = handshake.verified_at
        if verified_at is None or not _was_resumed(handshake.connection):
            verified_at = self._clock()
        self._known[handshake.place] = (session, verified_at)
        self._known.move_to_end(handshake.place)
        while len(self._known) > SESSIONS_AT_MOST:
            self._known.popitem(last=False)


def _was_resumed(connection: SSL.Connection) -> bool:
    # pyOpenSSL has no public call for it.
    return bool(SSL._lib.SSL_session_reused(connection._ssl))  # type: ignore[attr-defined] # noqa: SLF001

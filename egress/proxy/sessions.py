"""TLS sessions of upstreams, kept for the next connection to the same place.

1. a session is looked at when there is none for its place, when it was declined, and when half its life is over
2. INVARIANT bounded: so many places are known, the least used go first; and where looking costs memory for good, it is
   done so often and no more: Python before 3.12.8, and 3.13.0, keep a copy of every session that is looked at
   (python/cpython#116810). Connections then begin with a full handshake.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable

_PLACES_AT_MOST: Final = 1024
# A copy is some six kilobytes.
_LOOKS_AT_MOST: Final = 4096
# A server that gives no ticket is asked for one again after so long.
_AGAIN_SECONDS: Final = 300.0


def _keeps_copies(version: tuple[int, ...]) -> bool:
    return version < (3, 12, 8) or (3, 13) <= version < (3, 13, 1)


@dataclass(frozen=True, slots=True)
class _Kept:
    session: ssl.SSLSession | None
    renew_at: float


class Sessions[Place: Hashable]:
    """The sessions of one worker, by where they lead. `looks_at_most`: how often one may be looked at; None: always."""

    def __init__(self, looks_at_most: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if looks_at_most is None and _keeps_copies(sys.version_info[:3]):
            looks_at_most = _LOOKS_AT_MOST
        self._left = looks_at_most
        self._clock = clock
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()

    def of(self, place: Place) -> ssl.SSLSession | None:
        """What to offer there; None: a full handshake."""
        kept = self._kept.get(place)
        return None if kept is None else kept.session

    def remember(self, place: Place, wrapped: ssl.SSLSocket) -> None:
        """Keep what the server has given by now: TLS 1.3 gives it only after the first answer."""
        now = self._clock()
        kept = self._kept.get(place)
        if kept is not None and now < kept.renew_at and (kept.session is None or wrapped.session_reused):
            self._kept.move_to_end(place)
            return
        if self._left is not None:
            if not self._left:
                return
            self._left -= 1
        session = wrapped.session
        if session is None or not session.has_ticket:
            self._kept[place] = _Kept(None, now + _AGAIN_SECONDS)
        else:
            self._kept[place] = _Kept(session, now + session.timeout / 2)
        self._kept.move_to_end(place)
        while len(self._kept) > _PLACES_AT_MOST:
            self._kept.popitem(last=False)

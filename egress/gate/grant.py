"""Grants: the single-use, expiring permission to open one connection.

INVARIANT no-grant-no-connect: a lane dials only what a grant names, a grant is spent by the first dial, and only
`Gate.admit` makes one, after the policy allowed the request and its addresses.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.policy import Address

GRANT_SECONDS = 30.0

# A connection may hold this many unspent grants: one for each request under way on an HTTP/2 connection.
GRANTS_AT_MOST = 256


# Made anew for each request, so not frozen: INVARIANT no-grant-no-connect needs that nobody changes one.
@dataclass(slots=True)
class Grant:
    """May open one connection to `host`:`port` at one of `addresses`, before `expires` (monotonic seconds).

    `raw`: for TCP that is not looked into, where the server may be first to speak.
    """

    decision_id: str
    host: str
    port: int
    tls: bool
    addresses: tuple[Address, ...]
    expires: float = field(kw_only=True)
    raw: bool = field(default=False, kw_only=True)


@dataclass(slots=True)
class GrantBook:
    """The unspent grants of one client connection."""

    _unspent: deque[Grant] = field(default_factory=deque)

    @property
    def full(self) -> bool:
        """Whether the connection holds as many grants as it may."""
        return len(self._unspent) >= GRANTS_AT_MOST

    def add(self, grant: Grant) -> None:
        """Keep a grant until it is spent."""
        self._unspent.append(grant)

    def spend(self, host: str, port: int, *, tls: bool, now: float | None = None) -> Grant | None:
        """Take the oldest grant for this destination out of the book; None if there is none that still holds."""
        moment = time.monotonic() if now is None else now
        for grant in tuple(self._unspent):
            if grant.expires <= moment:
                self._unspent.remove(grant)
            elif (grant.host, grant.port, grant.tls) == (host, port, tls):
                self._unspent.remove(grant)
                return grant
        return None

    def drop(self, decision_id: str) -> None:
        """Forget a grant that its request no longer needs."""
        unspent = self._unspent
        if unspent and unspent[-1].decision_id == decision_id:
            unspent.pop()
            return
        for grant in tuple(unspent):
            if grant.decision_id == decision_id:
                unspent.remove(grant)

    def __len__(self) -> int:
        return len(self._unspent)

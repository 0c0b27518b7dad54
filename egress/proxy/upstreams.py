"""Connections to upstreams: opened on a grant, verified, kept for the next request of the same sandbox, and closed.

1. a connection is kept only after an answer that ended where its framing says, with nothing behind it
2. it serves one sandbox and one destination, over TLS parameters that never change
3. bytes or an end that come while it is kept close it, and so does its age
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.gate.dial import DialFailure
from egress.gate.permit import is_secure
from egress.policy import Reason, Refusal
from egress.proxy.endpoint import Endpoint
from egress.proxy.sessions import Sessions
from egress.proxy.upstream_tls import failure_of

if TYPE_CHECKING:
    from egress.gate.exchange import Exchange
    from egress.gate.gate import Gate
    from egress.gate.grant import GrantBook
    from egress.policy import Address, Request
    from egress.proxy.clock import Clock
    from egress.proxy.limits import FrontLimits
    from egress.proxy.upstream_tls import UpstreamTls

type Key = tuple[str, str, int, bool]


def key_of(request: Request) -> Key:
    """What a kept connection must share with a request to carry it: sandbox, host, port, TLS."""
    return (request.sandbox, request.host.text, request.port, is_secure(request))


@dataclass(slots=True, eq=False)
class Upstream:
    """An open connection. `opened` and `deadline` are the loop's time; `uses` counts the requests it carried."""

    endpoint: Endpoint
    key: Key
    address: Address
    opened: float
    pool: UpstreamPool
    deadline: float = 0.0
    uses: int = 0
    given: float = 0.0

    def late(self) -> None:
        """It was kept long enough."""
        self.pool.discard(self)

    @property
    def verified(self) -> bool:
        """Whether it speaks TLS; there is no handshake without verification."""
        return self.endpoint.tls is not None

    def unasked(self) -> None:
        """Something came while it was kept: news of its TLS session may stay, anything else ends it."""
        try:
            if self.endpoint.receive_now() is None:
                self.endpoint.watch()
                return
        except OSError:
            pass
        self.pool.discard(self)

    def quiet(self) -> bool:
        """Whether nothing is there to read: what would be read now belongs to no request."""
        try:
            return self.endpoint.receive_now() is None
        except OSError:
            return False


class UpstreamPool:
    """The kept connections of one worker."""

    def __init__(self, gate: Gate, tls: UpstreamTls, clock: Clock, limits: FrontLimits) -> None:
        self._gate = gate
        self._tls = tls
        self._clock = clock
        self._limits = limits
        self._kept: dict[Key, list[Upstream]] = {}
        self._order: OrderedDict[Upstream, None] = OrderedDict()
        self._sessions: Sessions[tuple[Key, Address]] = Sessions()

    def __len__(self) -> int:
        return len(self._order)

    def peek(self, key: Key) -> Upstream | None:
        """The connection that `take` would give; it stays kept."""
        while stack := self._kept.get(key):
            upstream = stack[-1]
            # Since it was given the loop has looked at it, and would have discarded it for anything that came; unless
            # that was a moment ago.
            if upstream.given != self._clock.now() or upstream.quiet():
                return upstream
            self.discard(upstream)
        return None

    def take(self, upstream: Upstream) -> bool:
        """Take a kept connection for a request; False if it is no longer there."""
        if upstream not in self._order:
            return False
        self._remove(upstream)
        upstream.endpoint.unasked = None
        return True

    def give(self, upstream: Upstream) -> None:
        """Keep a connection whose last answer ended well, if there is room and it is young enough."""
        self._remember(upstream)
        now = self._clock.now()
        old_at = upstream.opened + self._limits.upstream_lifetime_seconds
        if not self._limits.upstream_kept or now >= old_at:
            upstream.endpoint.close()
            return
        while len(self._order) >= self._limits.upstream_kept:
            self.discard(next(iter(self._order)))
        upstream.given = now
        upstream.deadline = min(now + self._limits.upstream_idle_seconds, old_at)
        self._kept.setdefault(upstream.key, []).append(upstream)
        self._order[upstream] = None
        self._clock.watch(upstream)
        upstream.endpoint.unasked = upstream.unasked
        upstream.endpoint.watch()

    def discard(self, upstream: Upstream) -> None:
        """Close a kept connection."""
        self._remove(upstream)
        upstream.endpoint.close()

    def close(self) -> None:
        """Close all that are kept."""
        for upstream in tuple(self._order):
            self.discard(upstream)

    async def open(self, exchange: Exchange, book: GrantBook) -> Upstream | Refusal:
        """Open a connection on the request's grant; `Refusal` says why there is none."""
        request = exchange.request
        secure = is_secure(request)
        dialled = await self._gate.dial(book, request.host.text, request.port, tls=secure)
        if isinstance(dialled, DialFailure):
            return Refusal(Reason.UPSTREAM_UNREACHABLE, dialled.detail)
        key = key_of(request)
        sock = dialled.sock
        try:
            address = dialled.peer()
            if secure:
                sock = self._tls.wrap(sock, request.host.text, self._sessions.of((key, address)))
        except (OSError, ValueError):
            sock.close()
            return Refusal(Reason.UPSTREAM_TLS, "the TLS handshake with the server failed")
        except BaseException:
            sock.close()
            raise
        endpoint = Endpoint(self._clock.loop, sock)
        upstream = Upstream(endpoint, key, address, self._clock.now(), self)
        if secure:
            problem = await self._handshake(upstream)
            if problem is not None:
                endpoint.close()
                return problem
        return upstream

    async def _handshake(self, upstream: Upstream) -> Refusal | None:
        hurry = self._clock.limit(self._limits.tls_seconds, upstream.endpoint.abort)
        try:
            await upstream.endpoint.handshake()
        except OSError as error:
            return failure_of(error)
        except BaseException:
            upstream.endpoint.abort()
            raise
        finally:
            hurry.cancel()
        return None

    def _remember(self, upstream: Upstream) -> None:
        """Keep the TLS session for the next connection."""
        wrapped = upstream.endpoint.tls
        if wrapped is not None and upstream.uses == 1:
            self._sessions.remember((upstream.key, upstream.address), wrapped)

    def _remove(self, upstream: Upstream) -> None:
        if upstream not in self._order:
            return
        del self._order[upstream]
        self._clock.forget(upstream)
        stack = self._kept[upstream.key]
        stack.remove(upstream)
        if not stack:
            del self._kept[upstream.key]

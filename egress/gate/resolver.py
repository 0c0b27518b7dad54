"""Names to addresses, once: absolute names, no search list, bounded cache by TTL, pins first.

Nothing else in the process resolves a name: what is dialled is an address that came from here and was judged. A pin
is an answer, not a permission: its addresses are judged like any other.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dns.asyncresolver

    from egress.gate.lookup import Found
    from egress.policy import Address

_CACHE_ENTRIES = 4096
_TTL_AT_MOST = 300.0
_ADDRESSES_AT_MOST = 32
_FAILURE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The addresses of a name in the resolver's order, IPv4 first; empty with `error` if there are none.

    `ttl`: seconds that it may be kept from now on.
    """

    addresses: tuple[Address, ...]
    error: str = ""
    ttl: float = field(default=0.0, compare=False)


class NameService(Protocol):
    """What the gate asks of whoever resolves names for it."""

    def known(self, name: str) -> Answer | None:
        """The answer if there is one without waiting: a pin, or what is remembered and has not expired."""

    async def resolve(self, name: str) -> Answer:
        """Addresses of a canonical name. Never raises for a name that does not resolve; `Answer.error` says why."""


@dataclass(slots=True)
class _Cached:
    answer: Answer
    expires: float


@dataclass(slots=True)
class Resolver:
    """Resolves with dnspython against the system's servers, or `servers` if given. One lookup a name at a time."""

    pins: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    lifetime_seconds: float = 5.0
    _cache: OrderedDict[str, _Cached] = field(default_factory=OrderedDict)
    _running: dict[str, asyncio.Future[Answer]] = field(default_factory=dict)
    _upstream: dns.asyncresolver.Resolver | None = None

    def known(self, name: str) -> Answer | None:
        """The answer if there is one without waiting."""
        pinned = self.pins.get(name)
        if pinned is not None:
            return Answer(pinned, ttl=_TTL_AT_MOST)
        cached = self._cache.get(name)
        if cached is None:
            return None
        left = cached.expires - time.monotonic()
        return replace(cached.answer, ttl=left) if left > 0 else None

    async def resolve(self, name: str) -> Answer:
        """Addresses of a canonical name. Never raises for a name that does not resolve; `Answer.error` says why."""
        known = self.known(name)
        if known is not None:
            return known
        running = self._running.get(name)
        if running is None:
            running = asyncio.ensure_future(self._look_up(name))
            self._running[name] = running
            running.add_done_callback(lambda _: self._running.pop(name, None))
        return await asyncio.shield(running)

    async def _look_up(self, name: str) -> Answer:
        found = await asyncio.gather(self._query(name, "A"), self._query(name, "AAAA"))
        addresses = [address for answer, _, _ in found for address in answer]
        unique = tuple(dict.fromkeys(addresses))[:_ADDRESSES_AT_MOST]
        if unique:
            answer, ttl = Answer(unique), min(ttl for answer, ttl, _ in found if answer)
        else:
            answer, ttl = Answer((), next((error for _, _, error in found if error), "no address")), _FAILURE_SECONDS
        answer = replace(answer, ttl=min(max(ttl, 0.0), _TTL_AT_MOST))
        self._remember(name, answer)
        return answer

    async def _query(self, name: str, kind: str) -> Found:
        from egress.gate.lookup import FAILURES, query  # noqa: PLC0415 - as below

        try:
            servers = self._servers()
        except FAILURES as error:
            return [], 0.0, f"the system's resolver settings cannot be used ({type(error).__name__})"
        return await query(servers, name, kind, self.lifetime_seconds)

    def _servers(self) -> dns.asyncresolver.Resolver:
        if self._upstream is None:
            # dnspython takes as long to load as the whole policy; it is not needed before the first name is.
            from egress.gate.lookup import make_resolver  # noqa: PLC0415

            self._upstream = make_resolver(self.servers)
        return self._upstream

    def _remember(self, name: str, answer: Answer) -> None:
        self._cache.pop(name, None)
        self._cache[name] = _Cached(answer, time.monotonic() + answer.ttl)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)

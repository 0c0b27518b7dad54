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
_UPSTREAM_ENTRIES = 1024
_TTL_AT_MOST = 300.0
_ADDRESSES_AT_MOST = 32
_FAILURE_SECONDS = 1.0
# The two errors that are answers: a server said so.
NO_NAME = "the name does not exist"
NO_ADDRESS = "no address"

type Server = str | tuple[str, int]
# Name servers, address and port, that a policy names; empty: it names none.
type Servers = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The addresses of a name in the resolver's order, IPv4 first; empty with `error` if there are none.

    `ttl`: seconds that it may be kept from now on.
    """

    addresses: tuple[Address, ...]
    error: str = ""
    ttl: float = field(default=0.0, compare=False)


# The type of a record and its data as they go over the wire.
type RecordData = tuple[str, int, bytes]


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one type, with the aliases that lead to them; empty with `error`, or where there are none.

    Each is the name that it is of, its type, and its data on the wire (RFC 1035, section 3.3), uncompressed.
    """

    records: tuple[RecordData, ...]
    error: str = ""
    ttl: float = field(default=0.0, compare=False)


class NameService(Protocol):
    """What the gate asks of whoever resolves names for it. `servers`: whom a policy wants asked, or none."""

    def known(self, name: str, servers: Servers = ()) -> Answer | None:
        """The answer if there is one without waiting: a pin, or what is remembered and has not expired."""

    async def resolve(self, name: str, servers: Servers = ()) -> Answer:
        """Addresses of a canonical name. Never raises for a name that does not resolve; `Answer.error` says why."""


type _Key = tuple[str, Servers]
_UNUSABLE = "the system's resolver settings cannot be used ({})"


@dataclass(slots=True)
class _Cached:
    answer: Answer
    expires: float


@dataclass(slots=True)
class Resolver:
    """Resolves with dnspython against the system's servers, or `servers` if given. One lookup a name at a time.

    `zones`: other servers for names at and below a domain; the longest domain that fits counts. Servers that a question
    brings count before both, and what they said is remembered apart: it is no answer for those who trust others.
    """

    pins: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    servers: tuple[Server, ...] = ()
    lifetime_seconds: float = 5.0
    zones: Mapping[str, tuple[Server, ...]] = field(default_factory=dict)
    _cache: OrderedDict[_Key, _Cached] = field(default_factory=OrderedDict)
    _running: dict[_Key, asyncio.Future[Answer]] = field(default_factory=dict)
    _upstream: OrderedDict[str | Servers, dns.asyncresolver.Resolver] = field(default_factory=OrderedDict)

    def known(self, name: str, servers: Servers = ()) -> Answer | None:
        """The answer if there is one without waiting."""
        pinned = self.pins.get(name)
        if pinned is not None:
            return Answer(pinned, ttl=_TTL_AT_MOST)
        cached = self._cache.get((name, servers))
        if cached is None:
            return None
        left = cached.expires - time.monotonic()
        return replace(cached.answer, ttl=left) if left > 0 else None

    async def resolve(self, name: str, servers: Servers = ()) -> Answer:
        """Addresses of a canonical name. Never raises for a name that does not resolve; `Answer.error` says why."""
        known = self.known(name, servers)
        if known is not None:
            return known
        key = name, servers
        running = self._running.get(key)
        if running is None:
            running = asyncio.ensure_future(self._look_up(name, servers))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)

    async def _look_up(self, name: str, servers: Servers) -> Answer:
        found = await asyncio.gather(self._query(name, "A", servers), self._query(name, "AAAA", servers))
        addresses = [address for answer, _, _ in found for address in answer]
        unique = tuple(dict.fromkeys(addresses))[:_ADDRESSES_AT_MOST]
        if unique:
            answer, ttl = Answer(unique), min(ttl for answer, ttl, _ in found if answer)
        else:
            answer, ttl = Answer((), next((error for _, _, error in found if error), NO_ADDRESS)), _FAILURE_SECONDS
        answer = replace(answer, ttl=min(max(ttl, 0.0), _TTL_AT_MOST))
        self._remember((name, servers), answer)
        return answer

    async def _query(self, name: str, kind: str, servers: Servers) -> Found:
        from egress.gate.lookup import FAILURES, query  # noqa: PLC0415 - as below

        try:
            asked = self._servers(name, servers)
        except FAILURES as error:
            return [], 0.0, _UNUSABLE.format(type(error).__name__)
        return await query(asked, name, kind, self.lifetime_seconds)

    async def records(self, name: str, kind: int, servers: Servers = ()) -> Records:
        """Records of any type of a canonical name, asked for anew each time. Never raises."""
        from egress.gate.lookup import FAILURES, query_records  # noqa: PLC0415 - as below

        try:
            asked = self._servers(name, servers)
        except FAILURES as error:
            return Records((), _UNUSABLE.format(type(error).__name__))
        return await query_records(asked, name, kind, self.lifetime_seconds)

    def _servers(self, name: str = "", servers: Servers = ()) -> dns.asyncresolver.Resolver:
        zone = self._zone(name) if self.zones and not servers else ""
        key = servers or zone
        if key not in self._upstream:
            # dnspython takes as long to load as the whole policy; it is not needed before the first name is.
            from egress.gate.lookup import make_resolver  # noqa: PLC0415

            self._upstream[key] = make_resolver(servers or (self.zones[zone] if zone else self.servers))
            # Policies come and go with each reload.
            while len(self._upstream) > _UPSTREAM_ENTRIES:
                self._upstream.popitem(last=False)
        return self._upstream[key]

    def _zone(self, name: str) -> str:
        """The longest of the zones that the name is at or below; empty: none."""
        while name and name not in self.zones:
            name = name.partition(".")[2]
        return name

    def _remember(self, key: _Key, answer: Answer) -> None:
        self._cache.pop(key, None)
        self._cache[key] = _Cached(answer, time.monotonic() + answer.ttl)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)

"""The name service of a process that judges: pins and a cache of its own, and the hub for the rest.

1. a name is asked for once at a time, whoever waits for it
2. every question ends: with the hub's answer, or with an error once the hub is gone or the time is over
3. names are told apart by the servers that a policy wants asked: what they say counts under no other policy
4. an answer is kept as long as the hub says, and so never longer than its records live
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from egress.gate.resolver import Answer
from egress.server.channel import Word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from egress.gate.resolver import Servers
    from egress.policy import Address
    from egress.server.channel import Line

_CACHE_ENTRIES: Final = 4096
_PINNED_SECONDS: Final = 300.0

# A name, and whom its policy wants asked.
type _Key = tuple[str, Servers]


class HubNames:
    """Asks the hub. `seconds`: how long one question may take."""

    def __init__(self, pins: Mapping[str, tuple[Address, ...]], seconds: float) -> None:
        self._pins = pins
        self._seconds = seconds
        self._line: Line | None = None
        self._cache: OrderedDict[_Key, tuple[Answer, float]] = OrderedDict()
        self._asked: dict[_Key, asyncio.Future[Answer]] = {}

    def known(self, name: str, servers: Servers = ()) -> Answer | None:
        """The answer if there is one without waiting: a pin, or what is remembered and has not expired."""
        pinned = self._pins.get(name)
        if pinned is not None:
            return Answer(pinned, ttl=_PINNED_SECONDS)
        answer, expires = self._cache.get((name, servers), (None, 0.0))
        return answer if expires > time.monotonic() else None

    async def resolve(self, name: str, servers: Servers = ()) -> Answer:
        """Addresses of a canonical name. Never raises for a name that does not resolve; `Answer.error` says why."""
        known = self.known(name, servers)
        if known is not None:
            # Whoever passes it on tells what is left of its time. `known` is asked for each request, and does not.
            expires = self._cache.get((name, servers), (None, float("inf")))[1]
            return replace(known, ttl=min(known.ttl, expires - time.monotonic()))
        answer = self._asked.get((name, servers))
        if answer is None:
            if self._line is None:
                return Answer((), "names cannot be resolved for now")
            answer = self._ask((name, servers), self._line)
        return await asyncio.shield(answer)

    def answered(self, key: _Key, addresses: Sequence[str], error: str, ttl: float) -> None:
        """The hub's answer to a question for a name, by these servers."""
        answer = Answer(tuple(ip_address(address) for address in addresses), error, ttl=ttl)
        self._cache.pop(key, None)
        self._cache[key] = (answer, time.monotonic() + ttl)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
        self._settle(key, answer)

    def attached(self, line: Line) -> None:
        """There is a hub to ask."""
        self._line = line

    def lost(self) -> None:
        """The hub is gone."""
        self._line = None
        for key in tuple(self._asked):
            self._settle(key, Answer((), "names cannot be resolved for now"))

    def _ask(self, key: _Key, line: Line) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._asked[key] = answer
        timer = loop.call_later(self._seconds, self._settle, key, Answer((), "the resolver did not answer in time"))
        answer.add_done_callback(lambda _: timer.cancel())
        line.say(Word.ASK, *key)
        return answer

    def _settle(self, key: _Key, answer: Answer) -> None:
        waiting = self._asked.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

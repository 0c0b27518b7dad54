"""What a process that judges asks the hub about names, beside their addresses. See `hub_questions`.

1. which addresses are synthetic is known here, without asking anybody
2. every question ends: with the hub's answer, or in an error once the hub is gone or the time is over
3. what an address stands for is remembered for less time than the hub keeps it so
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from egress.errors import EgressError
from egress.gate.given_book import is_in
from egress.gate.resolver import Records
from egress.policy import unmap
from egress.server.channel import Word
from egress.server.hub_questions import About

if TYPE_CHECKING:
    from egress.config import DnsConfig
    from egress.gate.resolver import Servers
    from egress.policy import Address
    from egress.server.channel import Line

_KEPT_SECONDS: Final = 60.0
_KEPT_AT_MOST: Final = 8_192
_SECONDS: Final = 5.0


class HubQuestions:
    """Asks the hub; is the `GivenNames` of its process, and lends addresses to whoever answers questions there."""

    def __init__(self, config: DnsConfig | None = None, seconds: float = _SECONDS) -> None:
        self._ranges = () if config is None or not config.gives else config.ranges
        self._seconds = seconds
        self._line: Line | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._lent: OrderedDict[tuple[str, int], tuple[Address, float]] = OrderedDict()
        self._names: OrderedDict[Address, tuple[str, float]] = OrderedDict()

    def is_synthetic(self, address: Address) -> bool:
        """Whether the address lies in one of the ranges, whoever was given it."""
        return is_in(address, self._ranges)

    async def name_of(self, address: Address) -> str | None:
        """The one name that a synthetic address stands for; None: none. Raises EgressError or TimeoutError."""
        plain = unmap(address)
        if not self.is_synthetic(plain):
            return None
        name: str | None = _kept(self._names, plain)
        if name is None:
            name = await self._ask(About.WHOSE, str(plain))
            if name is not None:
                _keep(self._names, plain, name)
        return name

    async def lend(self, name: str, version: int, sandbox: str) -> Address | None:
        """The address that stands for a canonical name; None: there is none to be had. Raises as `name_of`."""
        address: Address | None = _kept(self._lent, (name, version))
        if address is None:
            told = await self._ask(About.LEND, name, version, sandbox)
            if told is None:
                return None
            address = ip_address(told)
            _keep(self._lent, (name, version), address)
        return address

    async def records(self, name: str, kind: int, servers: Servers = ()) -> Records:
        """Records of a type of a canonical name, asked for anew: of `servers`, where a policy names any.

        Raises as `name_of`.
        """
        records, error, ttl = await self._ask(About.RECORDS, name, kind, servers)
        return Records(tuple((owner, number, data) for owner, number, data in records), error, ttl=ttl)

    # the hub's side

    def attached(self, line: Line) -> None:
        """There is a hub to ask."""
        self._line = line

    def lost(self) -> None:
        """The hub is gone."""
        self._line = None
        for number in tuple(self._asked):
            self.answered(number, None, "the process that knows is not there")

    def answered(self, number: int, answer: Any, error: str) -> None:
        """The hub's answer."""
        waiting = self._asked.pop(number, None)
        if waiting is None or waiting.done():
            return
        if error:
            waiting.set_exception(EgressError(error))
        else:
            waiting.set_result(answer)

    async def _ask(self, about: About, *question: Any) -> Any:
        if self._line is None:
            raise EgressError("the process that knows is not there")
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._line.say(Word.QUESTION, number, about.value, *question)
        try:
            async with asyncio.timeout(self._seconds):
                return await answer
        finally:
            self._asked.pop(number, None)


def _kept(kept: OrderedDict[Any, tuple[Any, float]], key: object) -> Any:
    value, until = kept.get(key, (None, 0.0))
    return value if until > time.monotonic() else None


def _keep(kept: OrderedDict[Any, tuple[Any, float]], key: object, value: object) -> None:
    kept[key] = (value, time.monotonic() + _KEPT_SECONDS)
    kept.move_to_end(key)
    while len(kept) > _KEPT_AT_MOST:
        kept.popitem(last=False)

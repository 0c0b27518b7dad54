"""Values of secrets, from the hub that fetches them to the processes that need them.

1. a process asks with the definition of a source, and the values of the variables that it names, which it alone has
2. every question ends: with the hub's answer, or without a value once the hub is gone or the time is over
3. a value is used here no longer than the hub says; with the hub gone, what is still valid goes on
4. INVARIANT secret-confinement: values travel over our own socket pairs and nowhere else, and are never logged
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from egress.config.plain_sources import from_plain, to_plain
from egress.credentials import Secret
from egress.credentials.binding import Binding
from egress.credentials.wanted import Failed, Held, Usable, Wanted
from egress.server.channel import LARGEST, Word, encode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.credentials.broker import Broker
    from egress.server.channel import Line

logger = logging.getLogger(__name__)

_QUESTIONS_AT_MOST: Final = 4_096
_SOON_SECONDS: Final = 1.0

type PlainAnswer = tuple[Any, ...]


class Fetches:
    """In the hub: answers the questions of all processes."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, line: Line, number: int, question: tuple[str, tuple[Any, ...], dict[str, str]]) -> None:
        """A process wants a value."""
        name, source, leaves = question
        values = {variable: Secret(variable, value) for variable, value in leaves.items()}
        if len(self._tasks) >= _QUESTIONS_AT_MOST:
            line.say(Word.FETCHED, number, _plain(Failed(f"secret `{name}`: too many secrets are being fetched")))
            return
        wanted = Wanted(name, from_plain(source), values)
        task = asyncio.get_running_loop().create_task(self._answer(line, number, wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def values(self) -> Iterable[Secret]:
        """All values that are held here, for the cleaning of logs."""
        return tuple(self.broker.values())

    async def close(self) -> None:
        """End what is being fetched, and with it the programs that were started for it."""
        for task in self._tasks:
            task.cancel()
        await self.broker.close()

    async def _answer(self, line: Line, number: int, wanted: Wanted) -> None:
        answer = await self.broker.get(wanted)
        data = encode(Word.FETCHED, number, _plain(answer))
        if len(data) > LARGEST:
            data = encode(Word.FETCHED, number, _plain(Failed(f"secret `{wanted.name}`: it is too large")))
        line.send(data)


@dataclass(slots=True)
class _Kept:
    usable: Usable
    ends: float
    renew_at: float


@dataclass(slots=True)
class HubSecrets:
    """In a process that judges: what the hub gave, and questions to it. `seconds`: how long one question may take."""

    seconds: float
    _line: Line | None = None
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _refused: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _questions: dict[int, Wanted] = field(default_factory=dict)
    _expected: tuple[Wanted, ...] = ()
    _number: int = 0

    def known(self, wanted: Wanted) -> Usable | None:
        """The value, if there is one that may be used now; one that is about to end is asked for anew."""
        kept = self._kept.get(wanted.key)
        if kept is None:
            return None
        now = time.monotonic()
        if now >= kept.ends:
            del self._kept[wanted.key]
            return None
        if now >= kept.renew_at:
            self._ask(wanted)
        return kept.usable

    async def fetch(self, wanted: Wanted) -> None:
        """Have the value fetched, and wait for it, within the limit."""
        if self.known(wanted) is None and self._refused.get(wanted.key, 0.0) <= time.monotonic():
            question = self._ask(wanted)
            if question is not None:
                await asyncio.shield(question)

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """These will be asked for; what no policy names any more is dropped."""
        self._expected = tuple(wanted)
        keys = {one.key for one in self._expected}
        for held in (self._kept, self._refused):
            for key in held.keys() - keys:
                del held[key]
        self._ask_expected()

    def values(self) -> Iterable[Secret]:
        """All values that are held here, for the cleaning of logs."""
        return tuple(kept.usable.secret for kept in tuple(self._kept.values()))

    def attached(self, line: Line) -> None:
        """There is a hub to ask."""
        self._line = line
        self._ask_expected()

    def lost(self) -> None:
        """The hub is gone: nobody answers what was asked, and what it refused another may give."""
        self._line = None
        self._refused.clear()
        for number in tuple(self._questions):
            self._settle(number)

    def answered(self, number: int, answer: PlainAnswer) -> None:
        """The hub's answer."""
        wanted = self._questions.get(number)
        if wanted is not None:
            self._take(wanted, _answer(wanted, answer))
            self._settle(number)

    def _take(self, wanted: Wanted, answer: Held | Failed) -> None:
        now = time.monotonic()
        if isinstance(answer, Held):
            self._refused.pop(wanted.key, None)
            self._kept[wanted.key] = _Kept(answer.usable, now + answer.usable_seconds, now + answer.renew_seconds)
            asyncio.get_running_loop().call_later(answer.usable_seconds + _SOON_SECONDS, self._drop_ended)
            return
        kept = self._kept.get(wanted.key)
        again = now + max(answer.retry_seconds, _SOON_SECONDS)
        if kept is None:
            self._refused[wanted.key] = again
        else:
            kept.renew_at = again

    def _drop_ended(self) -> None:
        """What may not be used any more stays nowhere, asked for or not."""
        now = time.monotonic()
        for key in [key for key, kept in self._kept.items() if now >= kept.ends]:
            del self._kept[key]

    def _ask_expected(self) -> None:
        for wanted in self._expected:
            if self.known(wanted) is None:
                self._ask(wanted)

    def _ask(self, wanted: Wanted) -> asyncio.Future[None] | None:
        """The question that is under way, begun now if there is none; None: nobody can be asked."""
        asked = self._asked.get(wanted.key)
        if asked is not None or self._line is None or len(self._asked) >= _QUESTIONS_AT_MOST:
            return asked
        self._number += 1
        leaves = {variable: value.reveal() for variable, value in wanted.leaves.items()}
        data = encode(Word.FETCH, self._number, wanted.name, to_plain(wanted.source), leaves)
        if len(data) > LARGEST:
            logger.error("secret `%s`: what its source is made with is too large", wanted.name)
            return None
        loop = asyncio.get_running_loop()
        asked = self._asked[wanted.key] = loop.create_future()
        self._questions[self._number] = wanted
        timer = loop.call_later(self.seconds, self._settle, self._number)
        asked.add_done_callback(lambda _: timer.cancel())
        self._line.send(data)
        return asked

    def _settle(self, number: int) -> None:
        wanted = self._questions.pop(number, None)
        waiting = None if wanted is None else self._asked.pop(wanted.key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _plain(answer: Held | Failed) -> PlainAnswer:
    if isinstance(answer, Failed):
        return (answer.message, answer.hint, answer.retry_seconds)
    binding = answer.usable.binding
    bound = None if binding is None else (binding.hosts, binding.methods, binding.paths)
    return (answer.usable.secret.reveal(), answer.usable_seconds, answer.renew_seconds, bound)


def _answer(wanted: Wanted, plain: PlainAnswer) -> Held | Failed:
    if len(plain) == 3:  # noqa: PLR2004 - the fields of a failure
        return Failed(*plain)
    value, usable_seconds, renew_seconds, bound = plain
    binding = None if bound is None else Binding(*bound)
    return Held(Usable(Secret(wanted.name, value), binding), usable_seconds, renew_seconds)

"""The limits of rules over all processes: the hub counts, and each process asks it.

1. never above: a request and its place are counted at the hub, one by one; bytes are granted before they pass
2. hardly below: of a byte limit the stocks of all processes hold one part in 80 at most, and as much is never granted,
   since what lies in stock may pass later than it was counted
3. each process remembers what it was granted, and tells a new hub before that one grants anything; a bucket of which a
   new hub is told begins empty
4. INVARIANT fail-closed: where no hub answers in time, nothing is admitted and no byte passes
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from egress.gate.quota import Over, Quotas, Way
from egress.policy import Rate, Reason, RuleLimits
from egress.server.channel import Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from egress.gate.quota import Slots
    from egress.policy import KeyedLimits
    from egress.server.channel import Line, Values

RESERVE: Final = 1 / 80
# An answer takes no longer than this, whatever has become of the hub; one that was killed is replaced in less.
_ANSWER_SECONDS: Final = 2.0
_ASKED_AT_MOST: Final = 4_096

type Plain = tuple[tuple[int, int] | None, int | None, int | None, tuple[int, int] | None, tuple[int, int] | None]


class NoAnswerError(Exception):
    """Nobody said in time what is left of a limit."""


@dataclass(slots=True)
class _Question:
    """What the hub is asked. `back` says that what it grants is not wanted any more."""

    word: Word
    values: tuple[Any, ...]
    answer: asyncio.Future[Any]
    granted: Callable[[Any], None]
    back: Callable[[Any], None]


class HubCounting:
    """Counts with the hub. `processes`: how many may have stocks of one limit."""

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._line: Line | None = None
        self._number = 0
        self._asked: dict[int, _Question] = {}
        # What this process was granted, for a hub that knows nothing of it.
        self._granted = Quotas()

    def keep(self, limit: int) -> int:
        """How many bytes of a limit may lie in a stock."""
        return int(limit * RESERVE) // self._processes

    async def admit(self, limits: KeyedLimits) -> Over | None:
        """Count a request, or say why not. Raises NoAnswerError."""

        def granted(over: Any) -> None:
            if over is None:
                self._granted.count("", limits, self._clock())

        def back(over: Any) -> None:
            if over is None:
                self.release(limits)

        over = await self._ask(Word.ADMIT, (_plain_all(limits),), granted, back)
        return None if over is None else Over(Reason(over[0]), over[1], over[2])

    def release(self, limits: KeyedLimits) -> None:
        """A request is not under way any more."""
        self._granted.release("", limits)
        if any(own.concurrent is not None for _, own in limits):
            self._say(Word.LEAVE, _plain_all(limits))

    async def take(self, key: str, limits: RuleLimits, way: Way, wanted: int) -> int:
        """As many bytes as are wanted, or as there are; none where nobody says so in time."""

        def granted(count: int) -> None:
            if count:
                self._granted.count_bytes(key, limits, way, count, self._clock())

        def back(count: int) -> None:
            self.give_back(key, limits, way, count)

        try:
            values = (key, _plain(limits), way.value, wanted)
            return int(await self._ask(Word.BYTES, values, granted, back))
        except NoAnswerError:
            return 0

    def give_back(self, key: str, limits: RuleLimits, way: Way, units: int) -> None:
        """Bytes did not pass."""
        if units:
            self._granted.give_back(key, limits, way, units)
            self._say(Word.UNUSED, key, _plain(limits), way.value, units)

    # the hub's side

    def report(self, line: Line) -> None:
        """Tell a hub what is held here, before anything else is asked of it."""
        for key, held, slots in self._granted.report(self._clock()):
            line.say(Word.SPENT, key, held, slots)

    def attached(self, line: Line) -> None:
        """There is a hub, and it was told what is held here."""
        self._line = line
        self._asked = {number: asked for number, asked in self._asked.items() if not asked.answer.done()}
        for number, asked in self._asked.items():
            line.say(asked.word, number, *asked.values)

    def lost(self) -> None:
        """The hub is gone, with what it was asked and did not answer."""
        self._line = None

    def answered(self, number: int, answer: Any) -> None:
        """The hub's answer."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        asked.granted(answer)
        if asked.answer.done():
            asked.back(answer)
        else:
            asked.answer.set_result(answer)

    async def _ask(
        self, word: Word, values: tuple[Any, ...], granted: Callable[[Any], None], back: Callable[[Any], None]
    ) -> Any:
        if len(self._asked) >= _ASKED_AT_MOST:
            raise NoAnswerError
        self._number += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[self._number] = _Question(word, values, answer, granted, back)
        self._say(word, self._number, *values)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise NoAnswerError from None
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                back(answer.result())
            raise

    def _say(self, word: Word, *values: Any) -> None:
        if self._line is not None:
            self._line.say(word, *values)


class QuotaPool:
    """The hub's counts. Answers nothing until it is said to be ready."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quotas = Quotas(RESERVE)
        self._asked: list[tuple[str, Line, Values]] = []
        self._joined: set[str] = set()
        # Whether it was not here before.
        self._holders: dict[str, bool] = {}

    def joined(self, name: str, holder: str) -> None:
        """A process is there. What one was granted that was here before is counted here already."""
        self._holders[holder] = name not in self._joined
        self._joined.add(name)

    def gone(self, holder: str) -> None:
        """A process is dead, or its line is."""
        self._holders.pop(holder, None)
        self._asked = [asked for asked in self._asked if asked[0] != holder]
        self._quotas.gone(holder)

    def heard(self, holder: str, line: Line, values: Values, *, ready: bool) -> None:
        """What a process says. Raises ValueError for what is not to be understood."""
        match values:
            case (Word.ADMIT, _, _) | (Word.BYTES, _, _, _, _, _):
                self._asked.append((holder, line, values))
                self.serve(ready=ready)
            case (Word.LEAVE, limits):
                self._quotas.release(holder, _limits_all(limits))
            case (Word.UNUSED, key, limits, way, units):
                self._quotas.give_back(key, _limits(limits), Way(way), units)
            case (Word.SPENT, key, held, slots):
                self._restore(holder, key, held, slots)
            case _:
                raise ValueError(values[0])

    def serve(self, *, ready: bool) -> None:
        """Answer what was asked, once every process has told what it holds."""
        if not ready:
            return
        asked, self._asked = self._asked, []
        for holder, line, values in asked:
            line.say(Word.COUNTED, values[1], self._answer(holder, values))

    def _restore(self, holder: str, key: str, held: int, slots: Slots) -> None:
        new = self._holders.get(holder, False)
        self._quotas.restore(holder, key, held, slots if new else None, self._clock())

    def _answer(self, holder: str, values: Values) -> Any:
        now = self._clock()
        if values[0] == Word.ADMIT:
            over = self._quotas.admit(holder, _limits_all(values[2]), now)
            return None if over is None else (over.reason.value, over.limit, over.seconds)
        _, _, key, limits, way, wanted = values
        return self._quotas.take(key, _limits(limits), Way(way), wanted, now)


def _plain(limits: RuleLimits) -> Plain:
    return (
        _pair(limits.requests),
        limits.burst,
        limits.concurrent,
        _pair(limits.upload),
        _pair(limits.download),
    )


def _pair(rate: Rate | None) -> tuple[int, int] | None:
    return None if rate is None else (rate.count, rate.seconds)


def _plain_all(limits: KeyedLimits) -> list[tuple[str, Plain]]:
    return [(key, _plain(own)) for key, own in limits]


def _limits(plain: Plain) -> RuleLimits:
    requests, burst, concurrent, upload, download = plain
    return RuleLimits(_rate(requests), burst, concurrent, _rate(upload), _rate(download))


def _rate(pair: tuple[int, int] | None) -> Rate | None:
    return None if pair is None else Rate(*pair)


def _limits_all(plain: Iterable[tuple[str, Plain]]) -> KeyedLimits:
    return tuple([(key, _limits(own)) for key, own in plain])

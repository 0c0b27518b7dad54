"""Limits that hold over all processes: one pool of units a limit, which the processes hold in small stocks.

1. never above: a unit is in the pool, held by one process, or on its way between the two; nobody makes one up
2. hardly below: all stocks together are at most 5% of the limit, so a unit is refused only when at least 95% of them
   are in use or on their way
3. a process that dies gives back what it held; a new pool learns what is held before it grants anything

A limit is a key and a number; what its unit stands for is the business of who takes it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from egress.server.channel import Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from egress.server.channel import Line

CONNECTIONS: Final = "connections"
# Before a client's address: the key of its own limit.
CLIENT: Final = "client "

# The part of a limit that may lie in stocks.
_IDLE = 0.05
# A refusal takes no longer than this, whatever has become of the pool.
_ANSWER_SECONDS = 2.0
_WAITING_AT_MOST = 1024
_CLIENTS_AT_MOST = 4096


def stock(limit: int, processes: int) -> int:
    """How many units of a limit one of so many processes may keep without using them."""
    return int(limit * _IDLE) // processes


class Pool:
    """The units of one limit that no process holds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}

    @property
    def free(self) -> int:
        """How many there are to grant."""
        return self._limit - sum(self._held.values())

    def report(self, holder: str, count: int) -> None:
        """A process says what it holds."""
        self._held[holder] = max(count, 0)

    def take(self, holder: str, wanted: int) -> int:
        """Give a process as many as it wants, or as there are."""
        granted = max(min(wanted, self.free), 0)
        self._held[holder] = self._held.get(holder, 0) + granted
        return granted

    def give_back(self, holder: str, count: int) -> None:
        """A process gives some back: never more than it holds."""
        held = self._held.get(holder, 0)
        self._held[holder] = held - max(min(count, held), 0)

    def gone(self, holder: str) -> None:
        """A process is dead, and what it held is free."""
        self._held.pop(holder, None)


class LeasedSlots:
    """Units of one limit for one process. `keep`: how many it may hold unused (see `stock`)."""

    def __init__(self, key: str, keep: int) -> None:
        self.key = key
        self._keep = keep
        self._line: Line | None = None
        self._used = 0
        self._idle = 0
        self._wanted = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def held(self) -> int:
        """All that this process has taken from the pool."""
        return self._used + self._idle

    @property
    def used(self) -> int:
        """How many are in use."""
        return self._used

    def try_take(self) -> bool | None:
        """Take one from the stock; None where the pool has to be asked."""
        if not self._idle:
            return None
        self._idle -= 1
        self._used += 1
        return True

    async def take(self) -> bool:
        """Take one, from the pool if need be. False: there is none, or nobody who could say so in time.

        A hub that was killed is replaced in less than that.
        """
        if self.try_take():
            return True
        if len(self._waiting) >= _WAITING_AT_MOST:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._ask()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await turn
        except TimeoutError:
            self._give_up(turn)
            return False
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def give_back(self) -> None:
        """One is not used any more."""
        self._used -= 1
        self._idle += 1
        self._serve()

    @property
    def unused(self) -> bool:
        """Whether none is taken, and nobody waits for one."""
        return not self._used and not self._waiting and not self._wanted

    def give_all_back(self) -> None:
        """Nobody will ask here again."""
        if self._idle and self._line is not None:
            self._line.say(Word.GIVE, self.key, self._idle)
        self._idle = 0

    # the hub's side

    def attached(self, line: Line) -> None:
        """There is a pool, and it was told what is held here: give back what is too much, ask for what is wanted."""
        self._line = line
        self._wanted = 0
        self._serve()
        if self._waiting:
            self._ask()

    def lost(self) -> None:
        """The pool is gone: what lies here can still be used, and who wants more waits for another."""
        self._line = None
        self._wanted = 0

    def granted(self, count: int) -> None:
        """The pool's answer; fewer than were asked for means that there are no more."""
        short = count < self._wanted
        self._wanted = 0
        self._idle += count
        self._serve()
        if self._waiting and short:
            self._refuse_waiting()
        elif self._waiting:
            self._ask()

    def _ask(self) -> None:
        if self._line is not None and not self._wanted:
            self._wanted = len(self._waiting) + self._keep // 2
            self._line.say(Word.TAKE, self.key, self._wanted)

    def _serve(self) -> None:
        """Give what is idle to who waits, and what then is too much back to the pool."""
        while self._idle and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._idle -= 1
                self._used += 1
                turn.set_result(True)
        if self._idle > self._keep and self._line is not None:
            surplus = self._idle - self._keep // 2
            self._idle -= surplus
            self._line.say(Word.GIVE, self.key, surplus)

    def _refuse_waiting(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(False)

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        """Who waited is not there any more; a unit that it was just given goes back."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled() and turn.result():
            self.give_back()


class Shares:
    """One process's part of every limit: of those that have one pool, and of those with a pool for each client.

    `keep`: how many unused units of `CONNECTIONS` it may hold; `keep_of_client`: of each client's.
    """

    def __init__(self, keep: int, keep_of_client: int) -> None:
        self.connections = LeasedSlots(CONNECTIONS, keep)
        self._keep_of_client = keep_of_client
        self._clients: OrderedDict[str, LeasedSlots] = OrderedDict()
        self._line: Line | None = None

    def of_client(self, address: str) -> LeasedSlots:
        """The connections of one client address."""
        slots = self._clients.get(address)
        if slots is None:
            slots = self._clients[address] = LeasedSlots(CLIENT + address, self._keep_of_client)
            if self._line is not None:
                slots.attached(self._line)
            self._forget_one()
        else:
            self._clients.move_to_end(address)
        return slots

    def held(self) -> list[tuple[str, int]]:
        """What this process holds of each limit."""
        return [(slots.key, slots.held) for slots in self._all()]

    def attached(self, line: Line) -> None:
        """There is a pool, and it was told what is held here."""
        self._line = line
        for slots in self._all():
            slots.attached(line)

    def lost(self) -> None:
        """The pool is gone."""
        self._line = None
        for slots in self._all():
            slots.lost()

    def granted(self, key: str, count: int) -> None:
        """The pool's answer."""
        slots = self.connections if key == CONNECTIONS else self._clients.get(key.removeprefix(CLIENT))
        if slots is not None:
            slots.granted(count)
        elif count and self._line is not None:
            self._line.say(Word.GIVE, key, count)

    def _all(self) -> tuple[LeasedSlots, ...]:
        return (self.connections, *self._clients.values())

    def _forget_one(self) -> None:
        """Bounded: of many clients the one that was here longest ago goes, if it has nothing open."""
        if len(self._clients) > _CLIENTS_AT_MOST:
            address, slots = next(iter(self._clients.items()))
            if slots.unused:
                del self._clients[address]
                slots.give_all_back()
            else:
                self._clients.move_to_end(address)


class Pools:
    """The hub's pools; `of_client` is the limit of each client's.

    Grants nothing until every process that may hold something has said what it holds.
    """

    def __init__(self, limits: Mapping[str, int], of_client: int = 0) -> None:
        self._pools = {key: Pool(limit) for key, limit in limits.items()}
        self._of_client = of_client
        self._expected: set[str] = set()
        self._complete = False
        self._asked: list[tuple[str, Line, str, int]] = []

    def free(self, key: str) -> int:
        """How many of a limit there are to grant."""
        return self._pool(key).free

    @property
    def ready(self) -> bool:
        """Whether every process has said what it holds."""
        return self._complete and not self._expected

    def expect(self, holder: str) -> None:
        """This process is there, and has not said what it holds."""
        self._expected.add(holder)

    def complete(self) -> None:
        """Every process that was there before this pool is known by now."""
        self._complete = True
        self._grant()

    def report(self, holder: str, held: Iterable[tuple[str, int]]) -> None:
        """A process says what it holds of each limit."""
        for key, count in held:
            self._pool(key).report(holder, count)
        self._expected.discard(holder)
        self._grant()

    def take(self, holder: str, line: Line, key: str, count: int) -> None:
        """A process wants units; it gets its answer on its line."""
        self._asked.append((holder, line, key, count))
        self._grant()

    def give(self, holder: str, key: str, count: int) -> None:
        """A process gives units back."""
        self._pool(key).give_back(holder, count)
        self._drop_unused(key)

    def gone(self, holder: str) -> None:
        """A process is dead."""
        self._expected.discard(holder)
        self._asked = [asked for asked in self._asked if asked[0] != holder]
        for key, pool in tuple(self._pools.items()):
            pool.gone(holder)
            self._drop_unused(key)
        self._grant()

    def _grant(self) -> None:
        if not self.ready:
            return
        asked, self._asked = self._asked, []
        for holder, line, key, count in asked:
            line.say(Word.GRANT, key, self._pool(key).take(holder, count))

    def _pool(self, key: str) -> Pool:
        """The pool of a key; a client's is made when it is first asked for, and lives while any of it is held."""
        pool = self._pools.get(key)
        if pool is None:
            if not key.startswith(CLIENT):
                raise KeyError(key)
            pool = self._pools[key] = Pool(self._of_client)
        return pool

    def _drop_unused(self, key: str) -> None:
        if key.startswith(CLIENT) and self._pools[key].free == self._of_client:
            del self._pools[key]

"""What an admitted request holds of its rules' limits: its place among those under way, and bytes that may pass.

1. bytes are taken before they go on, so none passes beyond a limit; where fewer are left than came, those go on, and
   the exchange ends there
2. what was taken and not used lies in a stock, which all requests of one process under one rule share, and goes back
   with the last of them
3. INVARIANT fail-closed: where nobody can say what is left, nothing is
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from egress.gate.quota import Over, Quotas, Way, for_sandbox, rate_of

if TYPE_CHECKING:
    from egress.gate.body import Buffer
    from egress.policy import KeyedLimits, RuleLimits


class ByteLimitError(Exception):
    """A byte limit is reached in the middle of a body."""


class Counting(Protocol):
    """Who counts, for this process alone or for all of them. `keep`: what a stock of so large a limit may hold."""

    async def admit(self, limits: KeyedLimits) -> Over | None:
        """Count a request, or say why not. Raises where that cannot be said in time."""

    def release(self, limits: KeyedLimits) -> None:
        """A request is not under way any more."""

    async def take(self, key: str, limits: RuleLimits, way: Way, wanted: int) -> int:
        """As many bytes as are wanted, or as there are."""

    def give_back(self, key: str, limits: RuleLimits, way: Way, units: int) -> None:
        """Bytes did not pass."""

    def keep(self, limit: int) -> int:
        """How many bytes of a limit may lie in a stock."""


class OwnCounting:
    """Counts for this process alone."""

    def __init__(self) -> None:
        self._quotas = Quotas()

    async def admit(self, limits: KeyedLimits) -> Over | None:
        """Count a request, or say why not."""
        return self._quotas.admit("", limits, time.monotonic())

    def release(self, limits: KeyedLimits) -> None:
        """A request is not under way any more."""
        self._quotas.release("", limits)

    async def take(self, key: str, limits: RuleLimits, way: Way, wanted: int) -> int:
        """As many bytes as are wanted, or as there are."""
        return self._quotas.take(key, limits, way, wanted, time.monotonic())

    def give_back(self, key: str, limits: RuleLimits, way: Way, units: int) -> None:
        """Bytes did not pass."""
        self._quotas.give_back(key, limits, way, units)

    def keep(self, _limit: int) -> int:
        """None: asking costs nothing."""
        return 0


class Stock:
    """Bytes of one limit that may pass at once."""

    __slots__ = ("_counting", "_keep", "_key", "_limits", "_way", "left", "users")

    def __init__(self, counting: Counting, key: str, limits: RuleLimits, way: Way) -> None:
        self._counting, self._key, self._limits, self._way = counting, key, limits, way
        self._keep = 0
        self.left = 0
        self.users = 0

    def join(self, limits: RuleLimits) -> None:
        """One more uses it; the policy may have been read anew since the last."""
        rate = rate_of(limits, self._way)
        self._limits = limits
        self._keep = 0 if rate is None else self._counting.keep(rate.count)
        self.users += 1

    async def fill(self, wanted: int) -> bool:
        """Get what is missing; whether anything came. Whose exchanges are all over gets nothing."""
        if not self.users:
            return False
        got = await self._counting.take(self._key, self._limits, self._way, wanted - self.left + self._keep)
        self.left += got
        if not self.users:
            # They ended meanwhile.
            self.give_back(0)
            return False
        return got > 0

    def give_back(self, keep: int | None = None) -> None:
        """What is too much goes back."""
        surplus = self.left - (self._keep if keep is None else keep)
        if surplus > 0:
            self.left -= surplus
            self._counting.give_back(self._key, self._limits, self._way, surplus)


class Share:
    """The bytes of one exchange in one direction: of each stock alike."""

    __slots__ = ("_stocks",)

    def __init__(self, stocks: tuple[Stock, ...]) -> None:
        self._stocks = stocks

    @property
    def left(self) -> int:
        """How many may pass without asking."""
        return min([stock.left for stock in self._stocks])

    def spend(self, size: int) -> None:
        """So many pass; no more than are left."""
        for stock in self._stocks:
            stock.left -= size
            stock.give_back()

    async def take(self, wanted: int) -> int:
        """Spend so many, or as many as there are."""
        # While one stock is filled, others who share it may take of another.
        while self.left < wanted:
            for stock in self._stocks:
                while stock.left < wanted and await stock.fill(wanted):
                    pass
                wanted = min(wanted, stock.left)
        self.spend(wanted)
        return wanted


class Held:
    """What one exchange holds, until it is released. A direction without a limit has no share."""

    __slots__ = ("_book", "_limits", "_released", "down", "up")

    def __init__(self, book: ShareBook, limits: KeyedLimits) -> None:
        self._book, self._limits = book, limits
        self._released = False
        self.up = book.share(limits, Way.UPLOAD)
        self.down = book.share(limits, Way.DOWNLOAD)

    def release(self) -> None:
        """The exchange is over; only the first call counts."""
        if not self._released:
            self._released = True
            self._book.release(self._limits)


class ShareBook:
    """What the exchanges of one process hold of all limits."""

    def __init__(self, counting: Counting | None = None) -> None:
        self._counting = counting or OwnCounting()
        self._stocks: dict[tuple[str, Way], Stock] = {}

    async def hold(self, sandbox: str, limits: KeyedLimits) -> Held | Over:
        """Take a request's place under the limits of its decision. Raises where nobody can say whether there is one."""
        own = for_sandbox(sandbox, limits)
        over = await self._counting.admit(own)
        return Held(self, own) if over is None else over

    def share(self, limits: KeyedLimits, way: Way) -> Share | None:
        """One more exchange's share of the stocks of one way; None where nothing limits it."""
        stocks = []
        for key, own in limits:
            if rate_of(own, way) is not None:
                stock = self._stocks.get((key, way))
                if stock is None:
                    stock = self._stocks[key, way] = Stock(self._counting, key, own, way)
                stock.join(own)
                stocks.append(stock)
        return Share(tuple(stocks)) if stocks else None

    def release(self, limits: KeyedLimits) -> None:
        """An exchange is over: its place is free, and a stock that nobody uses goes back."""
        for key, own in limits:
            for way in Way:
                stock = self._stocks.get((key, way)) if rate_of(own, way) is not None else None
                if stock is not None:
                    stock.users -= 1
                    if not stock.users:
                        stock.give_back(0)
                        del self._stocks[key, way]
        self._counting.release(limits)


async def allowed(share: Share, data: Buffer) -> Buffer:
    """What of these bytes may go on; fewer than came where the limit is reached. Copied before any wait."""
    size = len(data)
    if share.left >= size:
        share.spend(size)
        return data
    data = bytes(data)
    return data[: await share.take(size)]


def limit_detail(over: Over) -> str:
    """One sentence for people."""
    return f"The limit on `{over.limit}` of the rule that allows this is reached." if over.limit else ""

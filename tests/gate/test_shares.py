"""What an exchange holds of its rules' limits: exactly what may pass, and nothing once it is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from egress.gate.quota import Over, Quotas, Way
from egress.gate.shares import Held, ShareBook, allowed
from egress.policy import Rate, RuleLimits

if TYPE_CHECKING:
    from egress.policy import KeyedLimits

WIDE = ("wide", RuleLimits(upload=Rate(1000, 60), concurrent=2))
NARROW = ("narrow", RuleLimits(upload=Rate(600, 60)))


@dataclass
class Counter:
    """Counts as a hub would: an answer takes a turn of the loop, and stocks hold up to `stock` bytes."""

    stock: int = 0
    quotas: Quotas = field(default_factory=Quotas)
    asked: int = 0

    async def admit(self, limits: KeyedLimits) -> Over | None:
        """Count a request."""
        await asyncio.sleep(0)
        return self.quotas.admit("", limits, 0.0)

    def release(self, limits: KeyedLimits) -> None:
        """It is over."""
        self.quotas.release("", limits)

    async def take(self, key: str, limits: RuleLimits, way: Way, wanted: int) -> int:
        """Grant what there is."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.quotas.take(key, limits, way, wanted, 0.0)

    def give_back(self, key: str, limits: RuleLimits, way: Way, units: int) -> None:
        """Bytes did not pass."""
        self.quotas.give_back(key, limits, way, units)

    def keep(self, _limit: int) -> int:
        """The same for every limit."""
        return self.stock

    def left(self, key: str, limits: RuleLimits) -> int:
        """How much can still be granted."""
        return self.quotas.take(key, limits, Way.UPLOAD, 10**9, 0.0)


async def held(book: ShareBook, *limits: tuple[str, RuleLimits]) -> Held:
    """One more exchange."""
    got = await book.hold("s", limits)
    assert isinstance(got, Held)
    return got


@pytest.mark.parametrize("stock", [0, 50])
def test_no_more_passes_than_the_narrowest_limit_lets(stock: int) -> None:
    """To the byte, also in pieces; what a wider one granted besides is given back."""

    async def main() -> None:
        counter = Counter(stock)
        book = ShareBook(counter)
        exchange = await held(book, WIDE, NARROW)
        assert exchange.up is not None
        assert [await exchange.up.take(250) for _ in range(4)] == [250, 250, 100, 0]
        exchange.release()
        assert counter.left("s\0wide", WIDE[1]) == 400

    asyncio.run(main())


@pytest.mark.parametrize("stock", [0, 50])
def test_many_at_once_share_one_limit(stock: int) -> None:
    """Exchanges that wait at the same time get all of it together, and no more."""

    async def main() -> None:
        counter = Counter(stock)
        book = ShareBook(counter)
        shares = [(await held(book, NARROW)).up for _ in range(7)]
        taken = await asyncio.gather(*(share.take(100) for share in shares if share is not None))
        assert sum(taken) == 600

    asyncio.run(main())


def test_a_stock_saves_asking() -> None:
    """Small pieces are taken of what lies here, which is bounded."""

    async def main() -> None:
        counter = Counter(stock=100)
        exchange = await held(ShareBook(counter), WIDE)
        assert exchange.up is not None
        for _ in range(50):
            assert await exchange.up.take(10) == 10
            assert exchange.up.left <= 100
        assert counter.asked <= 6

    asyncio.run(main())


def test_what_is_over_holds_nothing() -> None:
    """Its place is free after the first release, the second does nothing, and its share grants no byte."""

    async def main() -> None:
        counter = Counter(stock=100)
        book = ShareBook(counter)
        first, second = await held(book, WIDE), await held(book, WIDE)
        assert first.up is not None
        assert await first.up.take(10) == 10
        assert isinstance(await book.hold("s", (WIDE,)), Over)
        for _ in range(3):
            first.release()
        third = await held(book, WIDE)
        assert isinstance(await book.hold("s", (WIDE,)), Over)
        for exchange in (second, third):
            exchange.release()
        assert await first.up.take(10) == 0
        assert counter.left("s\0wide", WIDE[1]) == 990

    asyncio.run(main())


def test_bytes_that_wait_are_copied() -> None:
    """The buffer that they came in is used for others meanwhile."""

    async def main() -> None:
        exchange = await held(ShareBook(Counter()), NARROW)
        assert exchange.up is not None
        shared = bytearray(b"mine" * 200)
        task = asyncio.ensure_future(allowed(exchange.up, memoryview(shared)))
        await asyncio.sleep(0)
        shared[:] = b"them" * 200
        assert bytes(await task) == b"mine" * 150

    asyncio.run(main())

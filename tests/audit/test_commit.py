"""Committing: who waits for a row is told when it is in the database, at once, and many by one commit."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

# Nobody would wait so long for a flush.
LONG = 30.0


def _count(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM decisions").fetchone()
    connection.close()
    return int(count)


def test_a_commit_waits_for_no_flush(database: Path, start: Callable[..., AuditWriter], decision: Callable) -> None:
    """When it returns, the row is in the file."""
    writer = start(flush_interval=LONG)

    async def play() -> None:
        for number in range(5):
            assert writer.offer(decision(number))
            assert await writer.commit(10)
            assert _count(database) == number + 1
        assert await writer.commit(0.5), "nothing is left to wait for"

    asyncio.run(play())


def test_those_who_wait_together_share_commits(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """One transaction for each would be one fsync for each."""
    writer = start(flush_interval=LONG)

    async def one(number: int) -> bool:
        assert writer.offer(decision(number))
        return await writer.commit(10)

    async def play() -> None:
        assert all(await asyncio.gather(*(one(number) for number in range(300))))
        assert _count(database) == 300

    asyncio.run(play())
    ((batches,),) = rows(database, "SELECT count(*) FROM batches")
    assert batches < 100


def test_a_commit_that_cannot_be_is_false_in_time(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """The row is kept, and recorded once that can be."""
    writer = start(flush_interval=LONG)
    blocker = sqlite3.connect(database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    async def play() -> None:
        assert writer.offer(decision(1))
        assert not await writer.commit(0.05)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert await writer.commit(10)
        assert _count(database) == 1

    asyncio.run(play())

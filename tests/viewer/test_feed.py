"""What fills the window, while one thing is read later than another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from viewer.seed import seed

from egress.viewer.feed import Feed
from egress.viewer.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from egress.audit import PagedReader


def test_what_is_about_to_be_shown_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that comes first leaves it alone: shown twice, the rows would move a cursor that a person has set."""
    seed(tmp_path / "audit.db")

    async def run() -> list[int]:
        filled: list[int] = []
        feed = Feed(tmp_path / "audit.db", Window(), shifted=lambda _: None, filled=filled.append)
        ask, going_on = feed._pages.ask, asyncio.Event()

        async def late[Answer](question: Callable[[PagedReader], Answer]) -> Answer:
            await going_on.wait()
            return await ask(question)

        monkeypatch.setattr(feed._pages, "ask", late)
        try:
            showing = asyncio.create_task(feed.newest())
            await asyncio.sleep(0)
            polled = asyncio.create_task(feed.poll(follows=True))
            await asyncio.wait([polled], timeout=0.5)
            going_on.set()
            await showing
            assert not await polled
            assert await feed.poll(follows=True)
            assert feed.activity.counted == feed.ends.last > 0
        finally:
            feed.close()
        return filled

    assert len(asyncio.run(run())) == 1

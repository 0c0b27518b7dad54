"""Reading the app's screen as the text that a terminal would have, and waiting for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from egress.viewer.app import Viewer

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

PATIENCE = 60.0


def screen(app: Viewer) -> list[str]:
    """The lines that the terminal shows."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Wait until it holds; what the screen shows is said if it never does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "\n".join(screen(pilot.app))  # type: ignore[arg-type]
        await pilot.pause(0.02)
    await pilot.pause()


async def settled(pilot: Pilot[None]) -> None:
    """Wait until nothing is being read."""
    app = pilot.app
    assert isinstance(app, Viewer)
    await until(pilot, lambda: app.feed.ends.file is not None and not app.feed.searching)
    await pilot.pause(0.05)
    await until(pilot, lambda: not app.feed.searching and app.feed.activity.counted == app.feed.ends.last)

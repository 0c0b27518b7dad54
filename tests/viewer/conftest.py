"""A seeded database, and the app on it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from viewer.driving import settled
from viewer.seed import seed

from egress.viewer.app import Viewer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from textual.pilot import Pilot


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own, one clock, and no wish about colours."""
    for name in ("NO_COLOR", "COLORFGBG", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="session")
def _seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seeded") / "audit.db"
    seed(path)
    return path


@pytest.fixture
def database(_seeded: Path, tmp_path: Path) -> Path:
    """The seeded database, a copy for each test."""
    path = tmp_path / "audit.db"
    path.write_bytes(_seeded.read_bytes())
    path.chmod(0o600)
    return path


@pytest.fixture
def drive(database: Path) -> Callable[..., None]:
    """Run the app on the database; `play` gets the pilot when the first rows are shown."""

    def run(
        play: Callable[[Pilot[None]], Coroutine[object, object, None]],
        *,
        size: tuple[int, int] = (80, 24),
        path: Path | None = None,
        **given: object,
    ) -> None:
        async def main() -> None:
            app = Viewer(path or database, **given)  # type: ignore[arg-type]
            async with app.run_test(size=size, notifications=True) as pilot:
                await settled(pilot)
                await play(pilot)

        asyncio.run(main())

    return run

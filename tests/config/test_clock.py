"""The clock by which rules expire: it goes on with the time of day, and never back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config import clock

if TYPE_CHECKING:
    import pytest


def test_it_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever somebody sets the machine's clock to."""
    start = clock.wall_clock()
    told = []
    for moment in (start + 10, start + 5, start - 3_600, start + 11):
        monkeypatch.setattr(clock.time, "time", lambda moment=moment: moment)
        told.append(clock.wall_clock() - start)
    monkeypatch.undo()
    clock._latest[0] = 0.0
    assert told == [10, 10, 10, 11]
    assert abs(clock.wall_clock() - start) < 3_600

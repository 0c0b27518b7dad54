"""The time of day by which rules expire. It never goes back: what has expired stays so, whoever sets the clock."""

from __future__ import annotations

import time
from typing import Final

_latest: Final = [0.0]


def wall_clock() -> float:
    """Seconds since 1970: the latest that this process has seen."""
    _latest[0] = max(_latest[0], time.time())
    return _latest[0]

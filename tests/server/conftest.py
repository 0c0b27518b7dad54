"""A folder with a policy, an origin, and `egress run` as a real process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rig.fixtures import origin, roots
from station import Station

if TYPE_CHECKING:
    from harness.authority import TestAuthority
    from harness.origins import Origins

__all__ = ["origin", "roots", "station"]


@pytest.fixture
def station(tmp_path: Path, origin: Origins, roots: TestAuthority) -> Station:
    """A station with the usual site's policy."""
    return Station(tmp_path, origin, roots)

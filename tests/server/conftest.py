"""A folder with a policy, an origin, and `egress run` as a real process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "mitm"))

from harness.authority import TestAuthority
from rig.proxy import origin_on
from station import Station

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.origins import Origins


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The CA of the origins' certificates, made once a run."""
    return TestAuthority(tmp_path_factory.mktemp("roots"))


@pytest.fixture
def origin(roots: TestAuthority) -> Iterator[Origins]:
    """A recorded origin on 127.0.0.1, HTTP and TLS on one port."""
    origins = origin_on(roots)
    yield origins
    origins.close()


@pytest.fixture
def station(tmp_path: Path, origin: Origins, roots: TestAuthority) -> Station:
    """A station with the usual site's policy."""
    return Station(tmp_path, origin, roots)

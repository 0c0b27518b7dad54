"""The pytest fixtures that both test folders of the wire use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.namespace import HarnessError
from harness.station import Station
from harness.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The namespace with recorders at every address."""
    try:
        made = World(tmp_path_factory.mktemp("world"))
    except HarnessError as problem:
        pytest.exit(str(problem), returncode=2)
    with made:
        yield made


@pytest.fixture(scope="session", params=["", "mitm"], ids=["least", "mitm"])
def station(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """The namespace with nginx, and a proxy that real clients are pointed at: what fits each rule, or the mitm lane."""
    folder = tmp_path_factory.mktemp("station")
    folder.chmod(0o755)
    try:
        made = Station(folder, request.param)
    except HarnessError as problem:
        pytest.exit(str(problem), returncode=2)
    with made:
        yield made

"""Sandboxes behind a gateway: one world for each file that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.gateway_world import GatewayWorld

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayWorld]:
    """The world, with its proxy and its rules in force."""
    with GatewayWorld(tmp_path_factory.mktemp("behind")) as made:
        yield made

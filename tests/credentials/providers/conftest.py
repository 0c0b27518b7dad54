"""The fixtures of the providers' tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from credentials.clouds.world import World
from harness.authority import TestAuthority

from egress.credentials.providers import vault

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The CA of all services, made once a run."""
    return TestAuthority(tmp_path_factory.mktemp("clouds"))


@pytest.fixture
def world(authority: TestAuthority) -> Iterator[World]:
    """A world without a service in it."""
    vault._logins.clear()
    with contextlib.ExitStack() as stack:
        yield World(authority, stack)

"""Fixtures of the conformance tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conformance.stage import Stages
from harness.namespace import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.stage import Stage

LANES = ("http", "mitm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a proxy is an end-to-end test."""
    for item in items:
        if "stages" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """The stages of this run."""
    made = Stages(tmp_path_factory.mktemp("conformance"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=LANES)
def stage(request: pytest.FixtureRequest, stages: Stages) -> Stage:
    """The stage of each lane in turn."""
    try:
        return stages[request.param]
    except HarnessError as problem:
        pytest.exit(str(problem), returncode=2)

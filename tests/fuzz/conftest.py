"""What of the fuzzers starts a proxy is an end-to-end test."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark it, so that `make check` can leave it out."""
    for item in items:
        if item.path.name == "test_listener.py":
            item.add_marker(pytest.mark.e2e)

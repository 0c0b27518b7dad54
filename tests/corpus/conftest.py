"""Fixtures of the corpus tests; the harness is that of the end-to-end tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "e2e")]

from harness.fixtures import world  # noqa: E402 -- the harness lies in the folder beside this one

__all__ = ["world"]

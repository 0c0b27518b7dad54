"""Makes the builders of policies importable, which stand beside the tests of the policy core."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "policy"))

"""The recipes run as shown: the sandbox's clients, in each lane, against stand-ins that want the credential."""

from __future__ import annotations

import pytest
from rig.fixtures import origin, roots, start
from rig.proxy import Carrier

__all__ = ["carrier", "origin", "roots", "start"]


@pytest.fixture(params=Carrier, ids=[carrier.value for carrier in Carrier])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """What carries the connections."""
    return Carrier(request.param)

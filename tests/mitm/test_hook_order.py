"""The contract with mitmproxy: which hooks it runs, in which order. A version that differs must fail here, loudly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.modes import HOOKS, Mode, make_site, record_hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy


@pytest.mark.parametrize("mode", Mode)
def test_hooks_run_in_the_order_that_the_lane_relies_on(
    mode: Mode, start: Callable[..., Proxy], origin: Origins
) -> None:
    """The whole list, in order, of an exchange that succeeds."""
    site = make_site(start, origin)
    names = record_hooks(site.proxy.lane)
    with site.serving(mode):
        assert site.exchange(mode).status == 200
        site.proxy.ledger.only()
    site.proxy.until(lambda: "server_disconnected" in names, "the end of the connection")
    told = tuple(name for name in names if not name.endswith("disconnected"))
    assert told == HOOKS[mode]

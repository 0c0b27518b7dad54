"""What a connection leaves in memory once it has ended: nothing large, without the help of the garbage collector.

A reload of a large policy freezes what there is, so that it costs no collections. What was left to the collector by
then would never be looked at again.
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

import pytest
from rig.ledger import wait_until
from rig.modes import Mode, make_site
from rig.proxy import Carrier

from egress.proxy.connection import Connection
from egress.proxy.tunnel import _Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins
    from rig.proxy import Proxy

PARTS = (Connection, _Tunnel)


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Collect once, and then not until the end."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def parts() -> list[str]:
    """What there is of connections."""
    return [type(each).__qualname__ for each in gc.get_objects() if isinstance(each, PARTS)]


@pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True)
@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.TLS2])
def test_a_connection_that_has_ended_leaves_nothing(start: Callable[..., Proxy], origin: Origins, mode: Mode) -> None:
    """In the front, after an exchange of each mode; what mitmproxy leaves is the collector's."""
    site = make_site(start, origin)
    assert site.exchange(mode).status == 200
    site.proxy.ledger.wait(1)
    wait_until(lambda: not parts(), "the end of the first connection")
    with site.proxy.connect():
        wait_until(lambda: parts() == ["Connection"], "a connection that is seen while it lasts")
    with without_collections():
        for _ in range(3):
            assert site.exchange(mode).status == 200
        wait_until(lambda: not parts(), "the end of all that a connection consists of")

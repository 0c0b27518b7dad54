"""What a connection leaves in memory once it has ended: nothing large, without the help of the garbage collector.

A reload freezes what there is, so that a large policy costs no collections. What was left to the collector by then
would never be looked at again.
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.http import HttpStream
from OpenSSL import SSL
from rig.ledger import wait_until
from rig.modes import Mode, carried, make_site

from egress.proxy.connection import Connection
from egress.proxy.tunnel import _Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins
    from rig.proxy import Proxy

PARTS = (Connection, _Tunnel, Layer, SSL.Connection)
# Small, and let go by its layer long before the connection ends.
LEFT_TO_THE_COLLECTOR = HttpStream


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
    """What there is of connections; a layer that holds nothing any more does not count."""
    found = [each for each in gc.get_objects() if isinstance(each, PARTS)]
    return [
        type(each).__qualname__
        for each in found
        if getattr(each, "__dict__", True) and not isinstance(each, LEFT_TO_THE_COLLECTOR)
    ]


@carried("mode", *((mode,) for mode in Mode))
def test_a_connection_that_has_ended_leaves_nothing(start: Callable[..., Proxy], origin: Origins, mode: Mode) -> None:
    """In either carrier, after an exchange of each mode."""
    site = make_site(start, origin)
    site.exchange(mode)
    site.proxy.ledger.wait(1)
    wait_until(lambda: not parts(), "the end of the first connection")
    with without_collections():
        for _ in range(3):
            site.exchange(mode)
        wait_until(lambda: not parts(), "the end of all that a connection consists of")

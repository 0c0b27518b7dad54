"""What a connection leaves behind: layers, contexts and HTTP/2 machines that know each other, with their TLS.

They are many and refer to each other in circles, so that they would stay until the garbage collector looks for circles
among everything, and for good if a reload froze them before. They are taken apart instead, once nothing runs on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.connection import H2Connection
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mitmproxy.proxy.server import ConnectionHandler

_PARTS: Final = (Layer, Context, H2Connection)


def take_apart(handler: ConnectionHandler) -> None:
    """Have nothing of an ended connection refer to anything else of it."""
    left: list[object] = [handler.__dict__.pop("layer")]
    while left:
        part = left.pop()
        held = part.__dict__
        for value in tuple(held.values()):
            left += (each for each in _within(value) if isinstance(each, _PARTS))
        held.clear()
    handler.transports.clear()
    # It knows the handler.
    handler.timeout_watchdog.callback = _nobody


async def _nobody() -> None:
    """Called when a connection that has ended were idle for too long."""


def _within(value: object) -> Iterable[object]:
    match value:
        case dict():
            return (*value.keys(), *value.values())
        case list() | tuple() | set():
            return tuple(value)
        case _:
            return (value,)

"""Ending a connection so that its client reads what it was told last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.proxy.endpoint import Endpoint

_SECONDS = 5.0
_BYTES = 16 << 20


async def linger(endpoint: Endpoint) -> None:
    """Throw away what still comes, for a while: closing on unread bytes would take the answer away again."""
    endpoint.say_no_more()
    left = _BYTES
    try:
        async with asyncio.timeout(_SECONDS):
            while left > 0 and (data := await endpoint.receive()):
                left -= len(data)
    except (OSError, TimeoutError):
        pass

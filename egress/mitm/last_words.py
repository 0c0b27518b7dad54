"""What was written last on a connection that ends is still sent, for as long as its peer takes any of it.

INVARIANT bounded: a peer that takes nothing more is left. It would else keep a socket, and what waits for it, for as
long as it likes, and nobody would count it any more.
"""

from __future__ import annotations

import asyncio
from typing import Final

# So long a peer may take nothing.
_LAST_SECONDS: Final = 10.0


async def let_go(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and come back once its socket is closed or about to be."""
    writer.close()
    transport = writer.transport
    left = transport.get_write_buffer_size()
    if not left:
        return
    closed = asyncio.ensure_future(_closed(writer))
    try:
        before = left + 1
        while left and left < before:
            await asyncio.wait((closed,), timeout=_LAST_SECONDS)
            before, left = left, transport.get_write_buffer_size()
    finally:
        # What has ended by itself holds nothing any more, and cannot be aborted.
        if transport.get_write_buffer_size():
            transport.abort()


async def _closed(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.wait_closed()
    except OSError:
        return

"""Holds reading back while a connection's layers hold much, and ends one that holds too much."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from mitmproxy.proxy.server import ConnectionHandler

from egress.mitm.attachment import attached
from egress.mitm.connection import close_client
from egress.mitm.holding import held_bytes

if TYPE_CHECKING:
    from mitmproxy.connection import Connection
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

logger = logging.getLogger(__name__)

_original_drain_writers = ConnectionHandler.drain_writers

HOLD_SOFT = 1 << 20
HOLD_HARD = 16 << 20
_HELD_PAUSE_SECONDS = 0.02
_BOTH_HELD_SECONDS = 1.0

# What a handler bears of ours: bytes that its layers hold at most, and the tasks that hold back.
MAY_HOLD = "_egress_may_hold"
_HELD_BACK = "_egress_held_back"


async def drain_writers(self: ProxyConnectionHandler) -> None:
    """Wait for the peers' sockets, and then while HTTP/2's own buffers hold too much.

    mitmproxy acknowledges HTTP/2 data as it comes and queues without bound for a peer that does not read; here the
    other side is not read from meanwhile. Two sides that wait for each other may go on up to the hard limit.
    """
    for transport in self.transports.values():
        writer = transport.writer
        if writer is not None and writer.transport.get_write_buffer_size():  # type: ignore[union-attr]
            await _original_drain_writers(self)
            break
    # The layers hold no more than what came since they were last looked through, and what they held then.
    if self.__dict__.get(MAY_HOLD, 0) <= HOLD_SOFT:
        return
    self.__dict__[MAY_HOLD] = held_bytes(self.layer, None)
    task = asyncio.current_task()
    reading = next((connection for connection, io in self.transports.items() if io.handler is task), None)
    if held_bytes(self.layer, reading) > HOLD_SOFT:
        await _hold_back(self, reading)


async def _hold_back(self: ProxyConnectionHandler, reading: Connection | None) -> None:
    """Do not read on while the layers hold too much; close the connection over the hard limit."""
    task = asyncio.current_task()
    waiting: set[asyncio.Task[Any] | None] = self.__dict__.setdefault(_HELD_BACK, set())
    waiting.add(task)
    started = time.monotonic()
    try:
        while (held := held_bytes(self.layer, reading)) > HOLD_SOFT:
            if held > HOLD_HARD:
                _hold_exceeded(self)
                return
            if len(waiting) > 1 and time.monotonic() - started > _BOTH_HELD_SECONDS:
                return
            await asyncio.sleep(_HELD_PAUSE_SECONDS)
            if self.client not in self.transports:
                return
    finally:
        waiting.discard(task)


def _hold_exceeded(self: ProxyConnectionHandler) -> None:
    logger.warning("a connection holds over %d bytes and is closed", HOLD_HARD)
    lane = attached()
    if lane is not None:
        lane.held_too_much(self)
    close_client(self)

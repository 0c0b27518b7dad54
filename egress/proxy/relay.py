"""Bytes both ways between two ends of which one speaks TLS here: what a WebSocket is after its handshake.

The first end of either ends both: a WebSocket closes by a message of its own before its connection does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress.gate.body import count_down, count_up, limited_down, limited_up
from egress.gate.shares import ByteLimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from egress.gate.body import Buffer
    from egress.gate.exchange import Exchange
    from egress.proxy.connection import Connection
    from egress.proxy.endpoint import Endpoint

    type Pass = Callable[[Exchange, Buffer], Buffer]
    type Limit = Callable[[Exchange, Buffer], Awaitable[Buffer]]

_TURN = 8


async def relay(
    connection: Connection, upstream: Endpoint, exchange: Exchange, first: tuple[bytes, bytes], buffer: memoryview
) -> None:
    """Carry until one side ends. `first`: what was read already, from the client and from the upstream.

    Raises ByteLimitError where no more may pass.
    """
    client = connection.endpoint

    async def one_way(source: Endpoint, sink: Endpoint, way: tuple[Limit, Pass], data: bytes) -> None:
        if data:
            await _pass_on(exchange, sink, way, data)
        turn = 0
        while size := await source.receive_into(buffer):
            connection.moved()
            await _pass_on(exchange, sink, way, buffer[:size])
            turn += 1
            if turn % _TURN == 0:
                await asyncio.sleep(0)

    up = asyncio.ensure_future(one_way(client, upstream, (limited_up, count_up), first[0]))
    down = asyncio.ensure_future(one_way(upstream, client, (limited_down, count_down), first[1]))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        ends = await asyncio.gather(up, down, return_exceptions=True)
    for end in ends:
        # A broken connection is an end like any other; a fault is the connection's, and gets its record there.
        if isinstance(end, Exception) and not isinstance(end, OSError):
            raise end


async def _pass_on(exchange: Exchange, sink: Endpoint, way: tuple[Limit, Pass], data: Buffer) -> None:
    limit, passes = way
    came = len(data)
    if exchange.quota is not None:
        data = await limit(exchange, data)
    await sink.send(passes(exchange, data))
    if len(data) < came:
        raise ByteLimitError

"""Opens a connection in place of mitmproxy's handler: by the gate, on a grant, to an address that was judged."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.server import ConnectionIO

from egress.gate.dial import DialFailure
from egress.mitm.attachment import attached
from egress.mitm.hook_runs import handle_hook
from egress.mitm.last_words import let_go

if TYPE_CHECKING:
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

logger = logging.getLogger(__name__)

# A connection of a client may have this many connections to upstreams at once.
_UPSTREAMS_AT_MOST = 128


async def open_connection(self: ProxyConnectionHandler, command: commands.OpenConnection) -> None:
    """In place of mitmproxy's dial: INVARIANT no-grant-no-connect."""
    server = command.connection
    failure = await _open(self, server)
    hook_data = server_hooks.ServerConnectionHookData(client=self.client, server=server)
    # INVARIANT fail-closed: the layers hold bytes for this connection and send them as soon as they know it open.
    if not failure and not await handle_hook(self, server_hooks.ServerConnectedHook(hook_data)):
        failure = "refused by the gate"
    if failure:
        server.error = failure
        _forget(self, server)
        await self.handle_hook(server_hooks.ServerConnectErrorHook(hook_data))
        await self.server_event(events.OpenConnectionCompleted(command, failure))
        return
    writer = self.transports[server].writer
    await self.server_event(events.OpenConnectionCompleted(command, None))
    try:
        await self.handle_connection(server)
    finally:
        server.timestamp_end = time.time()
        await self.handle_hook(server_hooks.ServerDisconnectedHook(hook_data))
        if isinstance(writer, asyncio.StreamWriter):
            await let_go(writer)


async def _open(self: ProxyConnectionHandler, server: Server) -> str:
    """Dial; the empty string when the connection is open and registered."""
    lane = attached()
    if lane is None or server.address is None or server.transport_protocol != "tcp" or server.via:
        return "refused by the gate"
    await self.handle_hook(
        server_hooks.ServerConnectHook(server_hooks.ServerConnectionHookData(client=self.client, server=server))
    )
    if server.error:
        return "refused by the gate"
    if sum(1 for connection in self.transports if isinstance(connection, Server)) > _UPSTREAMS_AT_MOST:
        return "too many connections to upstreams"
    server.timestamp_start = time.time()
    try:
        dialled = await lane.dial(self, server)
        if isinstance(dialled, DialFailure):
            return dialled.detail
        # A relay's socket is one of a pair of this process.
        unix = dialled.sock.family == socket.AF_UNIX
        open_it = asyncio.open_unix_connection if unix else asyncio.open_connection
        reader, writer = await open_it(sock=dialled.sock)
    except Exception:
        logger.exception("a connection could not be opened")
        return "refused by the gate"
    server.timestamp_tcp_setup = time.time()
    server.state = ConnectionState.OPEN
    if dialled.relayed:
        server.peername = (str(dialled.address), server.address[1])
    else:
        server.peername = writer.get_extra_info("peername")
        server.sockname = writer.get_extra_info("sockname")
    self.transports[server] = ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
    lane.opened(self, server)
    return ""


def _forget(self: ProxyConnectionHandler, server: Server) -> None:
    """Drop a connection that was not opened, or must not be used; mitmproxy would keep and count it."""
    transport = self.transports.pop(server, None)
    server.state = ConnectionState.CLOSED
    if transport is not None and transport.writer is not None:
        transport.writer.close()

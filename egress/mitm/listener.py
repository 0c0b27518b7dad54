"""mitmproxy's connection handler on sockets of ours: no master, no addons, nothing that could be reconfigured.

The handler's hooks go to the lane directly (see `guard`); mitmproxy's script loader, onboarding app and views are not
even imported.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from mitmproxy.proxy import mode_specs

from egress.errors import StartError
from egress.mitm import attachment, guard, lean, options_profile
from egress.mitm.arrival import Arrival, Carrier
from egress.mitm.last_words import let_go

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.gate.exchange import Client
    from egress.mitm.lane import MitmLane

logger = logging.getLogger(__name__)

_BACKLOG = 1024


class MitmListener:
    """Serves a lane on listening sockets."""

    def __init__(self, lane: MitmLane, *, idle_seconds: int) -> None:
        self._lane = lane
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._options = options_profile.fixed(options_profile.embedded(idle_seconds=idle_seconds))
        self._mode = mode_specs.ProxyMode.parse("regular")
        guard.install()
        lean.install()
        attachment.attach(lane)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Start accepting; the address really bound. Raises StartError when it cannot be."""
        try:
            server = await asyncio.start_server(self._accepted, host, port, backlog=_BACKLOG)
        except OSError as error:
            raise StartError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="choose another address with --listen HOST:PORT (port 0 picks a free one)",
            ) from error
        self._servers.append(server)
        bound: Sequence[object] = server.sockets[0].getsockname()
        address = (str(bound[0]), int(str(bound[1])))
        self._lane.gate.own.ports.add(address[1])
        return address

    async def take(self, sock: socket.socket, client: Client, destination: tuple[str, int] | None) -> None:
        """Carry a connection that another process accepted, to its end. `sock` gives its descriptor away.

        `destination` None: nothing of it was consumed. Else its CONNECT was judged and answered, and the next byte is
        the client's first inside the tunnel; it is judged again, since the policy may be another one by now.
        """
        # Whoever closes `sock` must not close what the loop still watches.
        own = socket.socket(fileno=sock.detach())
        try:
            own.setblocking(False)  # noqa: FBT003 - the method takes it so
            streams = await asyncio.open_connection(sock=own)
        except BaseException:
            own.close()
            raise
        await self._carry(streams, Arrival(client, destination))

    def stop_accepting(self) -> None:
        """Close the listeners; connections that are open go on."""
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """End every connection and wait until each has recorded its outcome."""
        for connection in tuple(self._lane.connections.values()):
            connection.close()
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=5)
        attachment.detach(self._lane)

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._handlers)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._carry((reader, writer), None)

    async def _carry(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], arrival: Arrival | None) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        try:
            await Carrier(streams, self._options, self._mode, arrival).handle_client()
        except Exception:
            logger.exception("a connection failed and is closed")
        finally:
            await let_go(streams[1])

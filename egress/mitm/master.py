"""mitmproxy embedded: a master with the addons whose options the layers need, our listener, our handler.

No script loader, no onboarding, no view: nothing of mitmproxy's that could be removed or reconfigured judges anything.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from mitmproxy.addons import next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy import layers, mode_specs
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from egress.errors import StartError
from egress.mitm import guard, options_profile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from egress.mitm.lane import MitmLane

logger = logging.getLogger(__name__)

_BACKLOG = 1024


class EmbeddedMaster:
    """Serves a lane on listening sockets. Make it inside the running event loop."""

    def __init__(self, lane: MitmLane, *, confdir: Path, idle_seconds: int) -> None:
        self._lane = lane
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()
        options = Options()
        self._master = Master(options)
        # LegacyLogEvents would copy every log record through all addons.
        self._master._legacy_log_events.uninstall()  # noqa: SLF001 - the master has no option for it
        # These register the options that the layers read; none of their hooks is run.
        self._master.addons.add(proxyserver.Proxyserver(), next_layer.NextLayer(), _Options())
        options.update(server=False, confdir=str(confdir), tcp_timeout=idle_seconds)
        options_profile.apply(options)
        options_profile.check(options)
        self._mode = mode_specs.ProxyMode.parse("regular")
        guard.install()
        guard.attach(lane)

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
        guard.detach(self._lane)

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._handlers)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        try:
            handler = ProxyConnectionHandler(self._master, reader, writer, self._master.options, self._mode)
            handler.layer = layers.modes.HttpProxy(handler.layer.context)
            await handler.handle_client()
        except Exception:
            logger.exception("a connection failed and is closed")
            writer.close()


class _Options(tlsconfig.TlsConfig):
    """mitmproxy's TLS options without its certificate store: certificates are ours."""

    def configure(self, updated: set[str]) -> None:
        """Read nothing and make nothing."""

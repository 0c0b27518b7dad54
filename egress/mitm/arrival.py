"""A client connection as another process hands it over: who is at its other end, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mitmproxy.proxy import layers
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from mitmproxy.master import Master
    from mitmproxy.options import Options
    from mitmproxy.proxy.mode_specs import ProxyMode

    from egress.gate.exchange import Client


@dataclass(frozen=True, slots=True)
class Arrival:
    """`destination`: of a CONNECT that was answered, so that what follows is inside it. None: nothing was consumed."""

    client: Client
    destination: tuple[str, int] | None


class _Named:
    """A writer while its handler is made, which wants two addresses for its log, and of a unix socket gets its peer."""

    def __init__(self, writer: StreamWriter, peer: str) -> None:
        self._writer = writer
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As the writer has it."""
        found = self._writer.get_extra_info(name, default)
        return (self._peer, 0) if name in {"peername", "sockname"} and not isinstance(found, tuple) else found


class Carrier(ProxyConnectionHandler):
    """mitmproxy's handler of one connection, beside what is known of it; it has no master and no addons."""

    def __init__(
        self,
        streams: tuple[StreamReader, StreamWriter],
        options: Options,
        mode: ProxyMode,
        arrival: Arrival | None,
    ) -> None:
        # The handler only keeps its master for the hooks, which are ours.
        reader, writer = streams
        named = writer if arrival is None else cast("StreamWriter", _Named(writer, arrival.client.peer))
        super().__init__(cast("Master", None), reader, named, options, mode)
        self.transports[self.client].writer = writer
        self.arrival = arrival
        inside = arrival is not None and arrival.destination is not None
        # Until the lane has judged where it leads, there is no address for it, without which that layer fails.
        top = layers.modes.TransparentProxy if inside else layers.modes.HttpProxy
        self.layer = top(self.layer.context)

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
        super().__init__(cast("Master", None), *streams, options, mode)
        self.arrival = arrival
        inside = arrival is not None and arrival.destination is not None
        # Until the lane has judged where it leads, there is no address for it, without which that layer fails.
        top = layers.modes.TransparentProxy if inside else layers.modes.HttpProxy
        self.layer = top(self.layer.context)

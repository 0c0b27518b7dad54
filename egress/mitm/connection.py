"""What the lane knows of one client connection: its grants, where it leads, what is under way on it, its deadline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.gate.grant import GrantBook
from egress.gate.roster import ClientPlace
from egress.policy import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitmproxy.connection import Client as MitmClient
    from mitmproxy.connection import Connection
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

    from egress.gate.connecting import Destination
    from egress.gate.exchange import Client, Exchange
    from egress.gate.gate import Gate
    from egress.mitm.awaited import Awaited
    from egress.mitm.sessions import Handshake
    from egress.wire.head import RequestHead


@dataclass(slots=True, eq=False)
class ClientConnection:
    """One accepted connection. Everything starts in the state that lets nothing through.

    `destination` is set by an allowed CONNECT; `hello_checked` by a ClientHello whose SNI is that destination;
    `verified` holds the ids of upstream connections whose certificate our context verified, `handshakes` those that no
    answer came on yet; `awaited` are requests whose bodies are. `foreign`: what came was neither TLS nor HTTP.
    `closed`: nothing may begin any more. `limited`: what is carried, under limits, by bytes that no hook sees.
    `recorded` counts the decisions that it left, `busy` the hooks that run on it.
    """

    handler: ProxyConnectionHandler
    client: Client
    head_seconds: float
    on_slow: Callable[[ClientConnection], None]
    book: GrantBook = field(default_factory=GrantBook)
    destination: Destination | None = None
    hello_checked: bool = False
    tunnel: Exchange | None = None
    limited: Exchange | None = None
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    awaited: set[Awaited] = field(default_factory=set)
    verified: set[str] = field(default_factory=set)
    handshakes: dict[str, Handshake] = field(default_factory=dict)
    recorded: int = 0
    busy: int = 0
    foreign: bool = False
    closed: bool = False
    _deadline: asyncio.TimerHandle | None = None

    def identify(self, gate: Gate, head: RequestHead) -> Refusal | None:
        """Learn from a head to the proxy itself which sandbox this is; a refusal if it is none, or another one."""
        found = gate.identify(self.client, head)
        if isinstance(found, Refusal):
            return found
        self.client = found
        return None

    def await_head(self) -> None:
        """A head must be here in time."""
        self.expect(self.head_seconds, lambda: self.on_slow(self))

    def expect(self, seconds: float, callback: Callable[[], None]) -> None:
        """Start the clock, unless it runs already: call back in `seconds` unless `met` comes first."""
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(seconds, callback)

    def met(self) -> None:
        """What was expected came: stop the clock."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def close(self) -> None:
        """End the connection and everything on it."""
        close_client(self.handler)

    @property
    def idle(self) -> bool:
        """Whether nothing is judged or carried on it, and something still may be."""
        return not (self.closed or self.busy or self.exchanges or self.awaited or self.tunnel is not None)

    def cut(self, _: str) -> None:
        """End it for a reason code, which the record of who cuts it has already."""
        self.close()

    def finish(self, error: str = "") -> None:
        """Record the outcome of whatever is still under way."""
        self.met()
        self.closed = True
        if self.tunnel is not None:
            self.tunnel.finish()
        for exchange in tuple(self.exchanges.values()):
            exchange.finish(error)
        self.exchanges.clear()
        for awaited in tuple(self.awaited):
            awaited.end(Reason(error) if error in Reason else Reason.REQUEST_MALFORMED, "the body was never whole")
        self.awaited.clear()

    def count(self, connection: Connection, size: int) -> None:
        """Bytes that came in from the client or from an upstream; only a tunnel counts them here."""
        if self.tunnel is None:
            return
        if connection is self.handler.client:
            self.tunnel.bytes_up += size
        else:
            self.tunnel.response_started(None)
            self.tunnel.bytes_down += size

    async def charge(self, source: Connection, size: int) -> int:
        """How many of so many bytes that were read may pass under the limits of what is carried."""
        quota = None if self.limited is None else self.limited.quota
        if quota is None:
            return 0
        share = quota.up if source is self.handler.client else quota.down
        return size if share is None else await share.take(size)

    def end_limited(self) -> None:
        """A byte limit is reached in the middle of what is carried."""
        exchange, self.limited = self.limited, None
        if exchange is not None:
            self.exchanges.pop(exchange.id, None)
            exchange.finish(Reason.LIMIT_BYTES.value)
        self.close()


def close_client(handler: ProxyConnectionHandler) -> None:
    """End a client's connection and everything on it, whether or not a lane knows of it."""
    transport = handler.transports.get(handler.client)
    if transport is None:
        return
    if transport.writer is not None:
        # INVARIANT fail-closed: what a layer says before the task below has ended goes nowhere.
        transport.writer.close()
    if transport.handler is not None:
        transport.handler.cancel("closed by egress")


def peer_of(client: MitmClient) -> tuple[str, ClientPlace]:
    """The client's `address:port`, and where it came from."""
    host, port = client.peername[0], client.peername[1]
    listener = str(client.sockname[0]), int(client.sockname[1])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", ClientPlace(str(host), listener)

"""What a connection handler of mitmproxy does instead of its own: run hooks, open connections, read, hold back.

Every function here takes the place of a method of `ProxyConnectionHandler` (see `guard`), in embedded use and under
`mitmdump -s` alike.

1. a hook that raises, or takes too long, leaves the state that it found: refused (`arm`)
2. a connection is opened by the gate, on a grant, to an address that was judged; nothing else opens one
3. a layer that crashed closes its connection, where mitmproxy would leave it hanging
4. no more is read while the layers hold much, and a connection that holds too much is closed
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mitmproxy import dns, http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

from egress.gate.denial import Denial
from egress.gate.dial import DialFailure
from egress.gate.ids import new_decision_id
from egress.mitm.attachment import attached
from egress.mitm.holding import held_bytes
from egress.policy import Reason

if TYPE_CHECKING:
    from mitmproxy.connection import Connection
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

logger = logging.getLogger(__name__)

_original_server_event = ConnectionHandler.server_event
_original_drain_writers = ConnectionHandler.drain_writers

HOLD_SOFT = 1 << 20
HOLD_HARD = 16 << 20
_HELD_PAUSE_SECONDS = 0.02
_BOTH_HELD_SECONDS = 1.0

# A connection of a client may have this many connections to upstreams at once.
_UPSTREAMS_AT_MOST = 128


async def handle_hook(self: ProxyConnectionHandler, hook: commands.StartHook) -> bool:
    """Run a hook so that an exception, a hang or a missing lane refuses; whether it ran to its end."""
    (data,) = hook.args()
    with self.timeout_watchdog.disarm():
        arm(hook.name, data)
        lane = attached()
        if lane is None:
            logger.error("no policy is in charge: everything is denied")
            _close_client(self)
            return False
        try:
            async with asyncio.timeout(lane.hook_seconds):
                await lane.run(self, hook, data)
        except Exception:
            logger.exception("hook %s failed: the connection is refused", hook.name)
            arm(hook.name, data)
            await lane.hook_failed(self, hook.name, data)
            return False
    return True


def arm(name: str, data: Any) -> None:
    """Put the state of refusal into a hook's data; the hook's last step takes it out again."""
    match name:
        case "client_connected":
            data.error = "not judged"
        case "server_connect":
            data.server.error = "not judged"
        case "http_connect" | "requestheaders":
            data.response = refusal(Denial(new_decision_id(), Reason.INTERNAL_ERROR))
        case "tls_start_client" | "tls_start_server":
            data.ssl_conn = None
        case "egress_upstream_ready":
            data.refusal = "the connection was not judged"
        case "dns_request" if isinstance(data, dns.DNSFlow):
            data.response = data.request.fail(dns.response_codes.REFUSED)
        case _:
            pass


def refusal(denial: Denial) -> http.Response:
    """A denial as mitmproxy's response."""
    body = denial.body()
    response = http.Response.make(denial.status, body, http.Headers(denial.headers(length=len(body))))
    response.reason = denial.reason_phrase
    return response


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
    await self.server_event(events.OpenConnectionCompleted(command, None))
    try:
        await self.handle_connection(server)
    finally:
        server.timestamp_end = time.time()
        await self.handle_hook(server_hooks.ServerDisconnectedHook(hook_data))


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
        reader, writer = await asyncio.open_connection(sock=dialled.sock)
    except Exception:
        logger.exception("a connection could not be opened")
        return "refused by the gate"
    server.timestamp_tcp_setup = time.time()
    server.state = ConnectionState.OPEN
    server.peername = writer.get_extra_info("peername")
    server.sockname = writer.get_extra_info("sockname")
    self.transports[server] = ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
    lane.opened(self, server)
    return ""


async def server_event(self: ProxyConnectionHandler, event: events.Event) -> None:
    """Count what was read, then let the layers act on it."""
    if isinstance(event, events.DataReceived):
        lane = attached()
        if lane is not None:
            lane.received(self, event.connection, len(event.data))
        task = asyncio.current_task()
        if task is not None:
            _reading(self)[task] = event.connection
    await _original_server_event(self, event)


async def drain_writers(self: ProxyConnectionHandler) -> None:
    """Wait for the peers' sockets, and then while HTTP/2's own buffers hold too much.

    mitmproxy acknowledges HTTP/2 data as it comes and queues without bound for a peer that does not read; here the
    other side is not read from meanwhile. Two sides that wait for each other may go on up to the hard limit.
    """
    await _original_drain_writers(self)
    task = asyncio.current_task()
    reading = None if task is None else _reading(self).get(task)
    if held_bytes(self.layer, reading) <= HOLD_SOFT:
        return
    waiting = _waiting(self)
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


def log(self: ProxyConnectionHandler, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
    """Keep mitmproxy's own words to debug level, since they repeat the wire; a crashed layer closes its connection."""
    if level >= logging.ERROR and exc_info:
        logger.error("a protocol layer failed: the connection is closed", exc_info=exc_info)
        lane = attached()
        if lane is not None:
            lane.crashed(self)
        _close_client(self)
        return
    logging.getLogger("mitmproxy.proxy.server").debug("%s", message, extra={"client": self.client.peername})


def _forget(self: ProxyConnectionHandler, server: Server) -> None:
    """Drop a connection that was not opened, or must not be used; mitmproxy would keep and count it."""
    transport = self.transports.pop(server, None)
    server.state = ConnectionState.CLOSED
    if transport is not None and transport.writer is not None:
        transport.writer.close()


def _close_client(self: ProxyConnectionHandler) -> None:
    """End the client's connection and with it all that hangs on it."""
    transport = self.transports.get(self.client)
    if transport is None:
        return
    if transport.handler is not None:
        transport.handler.cancel("closed by egress")
    elif transport.writer is not None:
        transport.writer.close()


def _hold_exceeded(self: ProxyConnectionHandler) -> None:
    logger.warning("a connection holds over %d bytes and is closed", HOLD_HARD)
    lane = attached()
    if lane is not None:
        lane.held_too_much(self)
    _close_client(self)


def _reading(self: ProxyConnectionHandler) -> WeakKeyDictionary[asyncio.Task[Any], Connection]:
    return self.__dict__.setdefault("_egress_reading", WeakKeyDictionary())  # type: ignore[no-any-return]


def _waiting(self: ProxyConnectionHandler) -> set[asyncio.Task[Any] | None]:
    return self.__dict__.setdefault("_egress_waiting", set())  # type: ignore[no-any-return]

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
import socket
import time
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from mitmproxy import dns, http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

from egress.gate.denial import Denial
from egress.gate.dial import DialFailure
from egress.gate.ids import new_decision_id
from egress.gate.within import within
from egress.mitm.attachment import attached
from egress.mitm.holding import held_bytes
from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mitmproxy.connection import Connection
    from mitmproxy.proxy.layer import Layer
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

logger = logging.getLogger(__name__)

_original_drain_writers = ConnectionHandler.drain_writers

HOLD_SOFT = 1 << 20
HOLD_HARD = 16 << 20
_HELD_PAUSE_SECONDS = 0.02
_BOTH_HELD_SECONDS = 1.0

# What one event may have done before other connections get their turn: a read can bring a thousand small requests.
HOOKS_AT_ONCE = 32

# What a handler bears of ours: bytes that its layers hold at most, how many hooks may still run at once, the layer that
# comes next, tasks that end a hook, and those that hold back.
_INSIDE = "_egress_inside"
_AT_ONCE = "_egress_at_once"
_MAY_HOLD = "_egress_may_hold"
_WAITING = "_egress_waiting"
_HELD_BACK = "_egress_held_back"
# What a hook bears: the task that runs it.
_TASK = "_egress_task"

# Set once a hook failed whose refusal is no answer: nothing is sent on any of its connections from then on.
_CUT = "_egress_cut"

# Hooks whose refusal is an answer that the client still gets.
ANSWERED = frozenset({"requestheaders", "http_connect"})

type Outgoing = dict[Connection, list[bytes]]

# A connection of a client may have this many connections to upstreams at once.
_UPSTREAMS_AT_MOST = 128


async def handle_hook(self: ProxyConnectionHandler, hook: commands.StartHook) -> bool:
    """Run a hook so that an exception, a hang or a missing lane refuses; whether it ran to its end."""
    name, data = hook.name, hook_data(hook)
    arm(name, data)
    lane = attached()
    if lane is None:
        logger.error("no policy is in charge: everything is denied")
        _close_client(self)
        return False
    watchdog = self.timeout_watchdog
    watchdog.blocker += 1
    watchdog.can_timeout.clear()
    try:
        await within(lane.hook_seconds, lane.run(self, hook, data))
    except Exception:
        logger.exception("hook %s failed: the connection is refused", name)
        arm(name, data)
        if getattr(data, "response", None) is not_judged():
            # This one may be sent.
            data.response = refusal(Denial(new_decision_id(), Reason.INTERNAL_ERROR))
        if name not in ANSWERED:
            # INVARIANT fail-closed: the layers go on in the same breath, before the connection's end takes hold.
            self.__dict__[_CUT] = True
        await lane.hook_failed(self, name, data)
        return False
    finally:
        watchdog.blocker -= 1
        if not watchdog.blocker:
            watchdog.register_activity()
            watchdog.can_timeout.set()
    return True


def arm(name: str, data: Any) -> None:
    """Put the state of refusal into a hook's data; the hook's last step takes it out again."""
    match name:
        case "client_connected":
            data.error = "not judged"
        case "server_connect":
            data.server.error = "not judged"
        case "http_connect" | "requestheaders":
            data.response = not_judged()
        case "tls_start_client" | "tls_start_server":
            data.ssl_conn = None
        case "egress_upstream_ready":
            data.refusal = "the connection was not judged"
        case "egress_body_part":
            data.may_pass = 0
        case "dns_request" if isinstance(data, dns.DNSFlow):
            data.response = data.request.fail(dns.response_codes.REFUSED)
        case _:
            pass


@cache
def not_judged() -> http.Response:
    """The refusal that is there before a hook has run; nobody gets it but where the hook did not run to its end."""
    return refusal(Denial(new_decision_id(), Reason.INTERNAL_ERROR))


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


async def server_event(self: ProxyConnectionHandler, event: events.Event) -> None:
    """In place of mitmproxy's, which starts a task for each hook and sends each piece on its own."""
    over = False
    if isinstance(event, events.DataReceived):
        lane = attached()
        charge = None if lane is None else lane.charged(self, event.connection, len(event.data))
        if charge is not None:
            over = await _take_of_limits(event, charge)
            if not event.data:
                _end_overdrawn(self, over=over)
                return
    async with self._server_event_lock:
        # INVARIANT: no `await` beyond this point, since layers must not be entered twice.
        self.timeout_watchdog.register_activity()
        if isinstance(event, events.DataReceived):
            size = len(event.data)
            self.__dict__[_MAY_HOLD] = self.__dict__.get(_MAY_HOLD, 0) + size
            lane = attached()
            if lane is not None:
                lane.received(self, event.connection, size)
        self.__dict__[_AT_ONCE] = HOOKS_AT_ONCE
        outgoing: Outgoing = {}
        try:
            try:
                _act(self, event, outgoing)
                self.layer = self.__dict__.pop(_INSIDE, self.layer)
            finally:
                for connection in tuple(outgoing):
                    _flush(self, outgoing, connection)
        except Exception:  # noqa: BLE001 - it is logged with what it was, and ends the connection
            self.log("a layer failed", logging.ERROR, exc_info=True)
    _end_overdrawn(self, over=over)


async def _take_of_limits(event: events.DataReceived, charge: Coroutine[Any, Any, int]) -> bool:
    """Take what was read of the limits that hold for it, before any layer sees it.

    What may not pass is taken out. True where a limit is reached.
    """
    size, taken = len(event.data), 0
    try:
        taken = await charge
    except asyncio.CancelledError:
        # mitmproxy looks for the end of this task only where it reads and writes.
        task = asyncio.current_task()
        if task is not None:
            task.cancel()
        event.data = b""
        return False
    except Exception:  # INVARIANT fail-closed: what cannot be counted does not pass
        logger.exception("what a limit allows cannot be said: the connection is closed")
    event.data = event.data[:taken]
    return taken < size


def _end_overdrawn(self: ProxyConnectionHandler, *, over: bool) -> None:
    lane = attached()
    if over and lane is not None:
        lane.overdrawn(self)


def go_inside(self: ProxyConnectionHandler, layer: Layer) -> None:
    """Give what happens from the next event on to a layer inside the present ones, which would only pass it through.

    That is how a connection whose CONNECT another process answered begins.
    """
    self.__dict__[_INSIDE] = layer


def _act(self: ProxyConnectionHandler, event: events.Event, outgoing: Outgoing) -> None:
    """Do what the layers ask for at an event, and at the end of each hook that needs no waiting."""
    due = [event]
    for happened in due:
        for command in self.layer.handle_event(happened):
            if isinstance(command, commands.SendData):
                transport = self.transports.get(command.connection)
                if transport is not None:  # else it is closed already
                    if transport.writer is None:
                        raise RuntimeError("data for a connection that is not open")
                    outgoing.setdefault(command.connection, []).append(command.data)
            elif isinstance(command, commands.StartHook):
                if run_now(self, command):
                    if command.blocking:
                        due.append(events.HookCompleted(command))
                else:
                    _wait_for(self, command)
            else:
                _obey(self, command, outgoing)


def _obey(self: ProxyConnectionHandler, command: commands.Command, outgoing: Outgoing) -> None:
    """Do what a layer asks for beside sending and hooks."""
    match command:
        case commands.OpenConnection():
            if command.connection in self.transports:
                raise RuntimeError("a connection is opened twice")
            # Before the task, which may begin and even end at once.
            transport = self.transports[command.connection] = ConnectionIO()
            transport.handler = asyncio.get_running_loop().create_task(self.open_connection(command))
        case commands.RequestWakeup():
            self.wakeup_timer.add(asyncio.get_running_loop().create_task(self.wakeup(command)))
        case commands.ConnectionCommand() if command.connection not in self.transports:
            pass  # It is closed already.
        case commands.CloseConnection():
            _flush(self, outgoing, command.connection)
            half = isinstance(command, commands.CloseTcpConnection) and command.half_close
            self.close_connection(command.connection, half)
        case commands.Log():
            self.log(command.message, command.level)
        case _:
            raise RuntimeError(f"an unknown command: {type(command).__name__}")


def _flush(self: ProxyConnectionHandler, outgoing: Outgoing, connection: Connection) -> None:
    """Send what there is for a connection, in one piece: each send is a call of the system, and often a segment."""
    pieces = outgoing.pop(connection, None)
    if self.__dict__.get(_CUT):
        return
    transport = self.transports.get(connection)
    if pieces and transport is not None and transport.writer is not None and not transport.writer.is_closing():
        transport.writer.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def run_now(self: ProxyConnectionHandler, hook: commands.StartHook) -> bool:
    """Run a hook as far as it goes without waiting. True: to its end, and the layer that asked may go on.

    False: the rest of it runs in the task that the hook now bears. Raises what the hook's failure could not be turned
    into a refusal for.
    """
    task = hook.__dict__.get(_TASK)
    if task is None:
        at_once = self.__dict__.get(_AT_ONCE, 0)
        self.__dict__[_AT_ONCE] = at_once - 1
        # Of its own, because what it may wait for belongs to a task: a time limit would else end its caller.
        task = asyncio.Task(handle_hook(self, hook), loop=asyncio.get_running_loop(), eager_start=at_once > 0)
        hook.__dict__[_TASK] = task
    if not task.done():
        return False
    task.result()
    return True


def _wait_for(self: ProxyConnectionHandler, hook: commands.StartHook) -> None:
    """Go on once a hook that waits has ended."""

    def ended(task: asyncio.Task[bool]) -> None:
        waiting = self.__dict__.setdefault(_WAITING, set())
        after = asyncio.get_running_loop().create_task(_ended(self, hook, task))
        waiting.add(after)
        after.add_done_callback(waiting.discard)

    hook.__dict__[_TASK].add_done_callback(ended)


async def _ended(self: ProxyConnectionHandler, hook: commands.StartHook, task: asyncio.Task[bool]) -> None:
    if task.cancelled() or task.exception() is not None:
        # INVARIANT fail-closed: what waits for this hook never goes on.
        logger.error("a hook ended in an unforeseen way: the connection is closed", exc_info=task.exception())
        _close_client(self)
    elif hook.blocking:
        await self.server_event(events.HookCompleted(hook))


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
    if self.__dict__.get(_MAY_HOLD, 0) <= HOLD_SOFT:
        return
    self.__dict__[_MAY_HOLD] = held_bytes(self.layer, None)
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
    if transport.writer is not None:
        transport.writer.close()
    if transport.handler is not None:
        transport.handler.cancel("closed by egress")


def _hold_exceeded(self: ProxyConnectionHandler) -> None:
    logger.warning("a connection holds over %d bytes and is closed", HOLD_HARD)
    lane = attached()
    if lane is not None:
        lane.held_too_much(self)
    _close_client(self)


def hook_data(hook: commands.StartHook) -> Any:
    """The one argument of a hook."""
    kind = type(hook)
    name = _ARGUMENTS.get(kind)
    if name is None:
        (only,) = fields(kind)  # type: ignore[arg-type]
        name = _ARGUMENTS[kind] = only.name
    return getattr(hook, name)


_ARGUMENTS: dict[type[commands.StartHook], str] = {}

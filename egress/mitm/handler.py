"""What an event does in a connection handler of mitmproxy, in place of the handler's own: layers, hooks, sending.

The functions here, and those of `hook_runs`, `dialling` and `draining`, take the place of methods of
`ProxyConnectionHandler` (see `guard`), in embedded use and under `mitmdump -s` alike.

1. layers are entered by one event at a time, and what they send at it leaves in one piece
2. what a limit does not let pass is taken out of what was read, before any layer sees it
3. a layer that crashed closes its connection, where mitmproxy would leave it hanging
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.server import ConnectionIO

from egress.mitm.attachment import attached
from egress.mitm.connection import close_client
from egress.mitm.draining import MAY_HOLD
from egress.mitm.hook_runs import AT_ONCE, CUT, HOOKS_AT_ONCE, run_now, wait_for

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mitmproxy.connection import Connection
    from mitmproxy.proxy.layer import Layer
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

    type Outgoing = dict[Connection, list[bytes]]

logger = logging.getLogger(__name__)

# What a handler bears of ours: the layer that comes next.
_INSIDE = "_egress_inside"


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
            self.__dict__[MAY_HOLD] = self.__dict__.get(MAY_HOLD, 0) + size
            lane = attached()
            if lane is not None:
                lane.received(self, event.connection, size)
        self.__dict__[AT_ONCE] = HOOKS_AT_ONCE
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
                    wait_for(self, command)
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
    if self.__dict__.get(CUT):
        return
    transport = self.transports.get(connection)
    if pieces and transport is not None and transport.writer is not None and not transport.writer.is_closing():
        transport.writer.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def log(self: ProxyConnectionHandler, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
    """Keep mitmproxy's own words to debug level, since they repeat the wire; a crashed layer closes its connection."""
    if level >= logging.ERROR and exc_info:
        logger.error("a protocol layer failed: the connection is closed", exc_info=exc_info)
        lane = attached()
        if lane is not None:
            lane.crashed(self)
        close_client(self)
        return
    logging.getLogger("mitmproxy.proxy.server").debug("%s", message, extra={"client": self.client.peername})

"""The front: accepts connections, gives each its turn and its room, and sees each to its end.

1. room      a connection takes one of the places that its client has, and one of those that all have, in all workers
             together; or it is refused and closed
2. turn      each client address gets one TLS handshake in each round of the loop
3. end       whatever happens to a connection, its outcome is recorded, its socket closed and its place given back
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from egress.config import DenyPage
from egress.gate.naming import unnamed
from egress.gate.roster import room_of
from egress.gate.standing import Standing
from egress.gate.within import within
from egress.policy import Reason, Refusal
from egress.proxy.bodies import SHARED
from egress.proxy.clock import Clock
from egress.proxy.connection import CLIENT_CLOSED, Connection, Phase, everywhere
from egress.proxy.endpoint import Endpoint
from egress.proxy.entrance import PROXY
from egress.proxy.http_lane import HttpParts
from egress.proxy.limits import FrontLimits, OwnClientSlots, OwnSlots, Slots
from egress.proxy.onward import Onward
from egress.proxy.opening import Opening
from egress.proxy.peers import peer_of, prepare
from egress.proxy.pipes import PipePool
from egress.proxy.turns import Turns
from egress.proxy.upstreams import UpstreamPool

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterator

    from egress.gate.denial import Denial
    from egress.gate.gate import Gate
    from egress.gate.roster import ClientPlace
    from egress.policy import Lane
    from egress.proxy.client_tls import ClientTls
    from egress.proxy.entrance import Entrance
    from egress.proxy.handing import HandOver
    from egress.proxy.upstream_tls import UpstreamTls

logger = logging.getLogger(__name__)

_CONNECTIONS = 4096
# Accepted at once before everything else gets its turn.
_ACCEPTS = 32
# Descriptors ran out: those that are open go on, new ones wait for this long.
_EXHAUSTED_SECONDS = 0.2
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Front:
    """Serves listening sockets on the running loop."""

    def __init__(
        self,
        gate: Gate,
        tls: ClientTls,
        upstream_tls: UpstreamTls,
        limits: FrontLimits,
        *,
        hand_over: HandOver,
        forced: Lane | None = None,
        slots: Slots | None = None,
        client_slots: Callable[[str], Slots] | None = None,
        deny_page: DenyPage = DenyPage.CONNECT,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = gate
        self._limits = limits
        self._slots = slots or OwnSlots(_CONNECTIONS)
        self._client_slots = client_slots or OwnClientSlots(_CONNECTIONS).of
        self._clock = Clock(self._loop)
        self._pool = UpstreamPool(gate, upstream_tls, self._clock, limits)
        http = HttpParts(self._pool, memoryview(bytearray(SHARED)))
        self._pipes = PipePool()
        turns = Turns(self._loop)
        onward = Onward(
            tls, http, pipes=self._pipes, hand_over=hand_over, forced=forced, turns=turns, deny_page=deny_page
        )
        self._opening = Opening(onward, http, forced)
        self._listening: dict[socket.socket, Entrance] = {}
        self._open: dict[asyncio.Task[None], Connection] = {}
        gate.standing = self._standing
        gate.clients = lambda: [connection.client.sandbox for connection in self._open.values()]

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def serve(self, listening: socket.socket, entrance: Entrance = PROXY) -> None:
        """Accept on a listening socket, whose owner keeps it open."""
        listening.setblocking(False)  # noqa: FBT003 - the method takes it so
        self._listening[listening] = entrance
        self._loop.add_reader(listening.fileno(), self._accept, listening)

    def stop_accepting(self) -> None:
        """Accept no more; what is open goes on."""
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())
        self._listening.clear()

    async def close(self) -> None:
        """End every connection and wait until each has recorded its outcome."""
        self.stop_accepting()
        for connection in tuple(self._open.values()):
            connection.interrupt(Reason.SHUTTING_DOWN.value)
        if self._open:
            await asyncio.wait(tuple(self._open), timeout=5)
        self._pool.close()
        self._pipes.close()

    # accept

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(listening, error)
                    return
                logger.warning("a connection could not be accepted: %s", os.strerror(error.errno or 0))
                return
            entrance = self._listening[listening]
            try:
                who = peer_of(sock, peer, entrance.address)
            except OSError as error:
                # INVARIANT fail-closed: who cannot be told is nobody at all.
                logger.warning("a connection has no peer and is closed: %s", os.strerror(error.errno or 0))
                sock.close()
                continue
            self._begin(sock, *who, entrance)

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """No descriptor is left: leave new connections where they are for a moment, instead of asking in a circle."""
        logger.warning("no more connections can be accepted for now: %s", os.strerror(error.errno or 0))
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(_EXHAUSTED_SECONDS, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _begin(self, sock: socket.socket, peer: str, place: ClientPlace, entrance: Entrance) -> None:
        prepare(sock)
        client = self._gate.arrived(peer, place, entrance.road)
        endpoint = Endpoint(self._loop, sock)
        connection = Connection(
            self._gate, self._clock, self._limits, client, endpoint, place.address, entrance=entrance
        )
        task = self._loop.create_task(self._run(connection))
        connection.task = task
        self._open[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        connection = self._open.pop(task, None)
        if connection is not None:
            connection.endpoint.close()
        if not task.cancelled() and task.exception() is not None:
            logger.error("a connection failed", exc_info=task.exception())

    def _standing(self) -> Iterator[Standing]:
        """What a reload may find idle: nothing is judged, carried or answered on it."""
        for connection in self._open.values():
            idle = connection.exchange is None and connection.judging is None
            if not idle or connection.phase is Phase.CARRYING:
                continue
            if connection.bound is not None:
                yield Standing(connection.client, connection.bound, connection.interrupt)
            elif connection.client.settled:
                request = unnamed(connection.client.sandbox, None, None)
                yield Standing(connection.client, request, connection.interrupt, bound=False)

    # one connection

    async def _run(self, connection: Connection) -> None:
        taken: list[Slots] = []
        try:
            if not await self._place(connection, taken):
                await self._turn_away(connection)
                return
            connection.move_in = partial(self._move_in, connection, taken)
            self._clock.watch(connection)
            await self._opening.carry(connection)
        except asyncio.CancelledError:
            await self._interrupted(connection)
        except OSError:
            # The client is gone: nobody is left to tell.
            connection.finish(CLIENT_CLOSED)
        except Exception:
            logger.exception("a connection failed and is closed")
            await self._failed(connection)
        finally:
            connection.finish(CLIENT_CLOSED)
            # It leads back to the connection, which would be kept until the collector looks for circles.
            connection.move_in = everywhere
            self._clock.forget(connection)
            connection.endpoint.close()
            for slots in taken:
                slots.give_back()

    async def _place(self, connection: Connection, taken: list[Slots]) -> bool:
        for slots in (self._client_slots(room_of(connection.client, connection.address)), self._slots):
            free = slots.try_take()
            if free is None:
                free = await slots.take()
            if not free:
                return False
            taken.append(slots)
        return True

    async def _move_in(self, connection: Connection, taken: list[Slots]) -> bool:
        """Take a place of the sandbox's that the client turned out to be, and give back that of its address."""
        slots = self._client_slots(room_of(connection.client, connection.address))
        if slots is taken[0]:
            return True
        free = slots.try_take()
        if not (await slots.take() if free is None else free):
            return False
        taken[0].give_back()
        taken[0] = slots
        return True

    async def _turn_away(self, connection: Connection) -> None:
        denial = await connection.refuse_unread(Reason.LIMIT_CONNECTIONS)
        if connection.entrance.silent:
            connection.endpoint.abort()
            return
        with contextlib.suppress(OSError):
            connection.endpoint.sock.send(denial.http1())

    async def _interrupted(self, connection: Connection) -> None:
        """A deadline, a reload or the end of the process: the outcome says which."""
        why = connection.interruption or Reason.SHUTTING_DOWN.value
        if connection.judging is not None:
            # Not every end has a reason of its own: a client that left, for one.
            reason = Reason(why) if why in Reason else Reason.SHUTTING_DOWN
            await self._in_time(connection.refuse(connection.judging, Refusal(reason, "")))
        elif connection.exchange is None and connection.phase is Phase.HEAD and why == Reason.LIMIT_TIME.value:
            await self._in_time(connection.refuse_unread(Reason.LIMIT_TIME, "the head"))
        self._break_off(connection)
        connection.finish(why)

    async def _failed(self, connection: Connection) -> None:
        """INVARIANT fail-closed: a fault ends the connection and leaves a record, also before the first decision."""
        if connection.exchange is None:
            await self._in_time(connection.refuse_unread(Reason.INTERNAL_ERROR))
        self._break_off(connection)
        connection.finish(Reason.INTERNAL_ERROR.value)

    def _break_off(self, connection: Connection) -> None:
        """A client that awaits no words of a proxy's, and got none of its destination's, must not see a plain end."""
        if connection.entrance.silent and connection.exchange is None and connection.phase is Phase.HEAD:
            connection.endpoint.abort()

    async def _in_time(self, refusal: Coroutine[Any, Any, Denial]) -> None:
        """Record a refusal that nothing else limits any more."""
        try:
            await within(self._gate.limits.judge_seconds, refusal)
        except Exception:
            logger.exception("a refusal could not be recorded")

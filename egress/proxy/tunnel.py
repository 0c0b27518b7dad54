"""The tunnel lane: bytes move between two sockets, both ways, until both directions have ended.

Few bytes are copied, which is one call each way; what comes in bulk moves inside the kernel, through a pipe.

1. a direction reads only while what it read before is delivered: a receiver that stops stops its sender
2. an end of one side is passed on as an end, after the last byte; the other direction goes on
3. idle time, total time and bytes have limits; whichever is met ends the tunnel with its reason
4. what a rule limits is taken of its limit before it goes on; where fewer bytes are left, those go, and it ends
5. no pipe is held while nothing is in it; without descriptors for a pipe, bytes are copied
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.policy import Reason
from egress.proxy.blindness import Blindness
from egress.proxy.pipes import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.exchange import Exchange
    from egress.gate.shares import Share
    from egress.proxy.pipes import PipePool

logger = logging.getLogger(__name__)

# Reads in a row before others get their turn.
_TURN = 8
# Less than this at once is all that there is, and copied in less time than it is moved.
_FEW = 16_384
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


@dataclass(frozen=True, slots=True)
class TunnelLimits:
    """Seconds without a byte, seconds in all, bytes both ways together; None: no limit."""

    idle_seconds: float
    total_seconds: float | None = None
    bytes_at_most: int | None = None


async def carry(
    client: socket.socket, upstream: socket.socket, exchange: Exchange, limits: TunnelLimits, pipes: PipePool
) -> str:
    """Carry until both directions have ended, or a limit is met: the empty string, or a reason code.

    The sockets stay open, and nothing of the loop's is left on them, also when this is cancelled.
    """
    tunnel = _Tunnel(client, upstream, exchange, limits, pipes)
    try:
        tunnel.start()
        return await tunnel.ended
    finally:
        tunnel.stop()


class _Tunnel:
    """Two directions, and what ends them."""

    __slots__ = ("_idle", "_limits", "_timers", "_ways", "ended", "exchange", "last", "left", "loop", "pipes")

    def __init__(
        self, client: socket.socket, upstream: socket.socket, exchange: Exchange, limits: TunnelLimits, pipes: PipePool
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.pipes = pipes
        self.exchange = exchange
        self.ended: asyncio.Future[str] = self.loop.create_future()
        self.left = limits.bytes_at_most
        self.last = self.loop.time()
        self._limits = limits
        self._timers: list[asyncio.TimerHandle] = []
        self._idle: asyncio.TimerHandle | None = None
        quota = exchange.quota
        self._ways: tuple[_Way, ...] = (
            _Way(self, (client, upstream), self._went_up, None if quota is None else quota.up),
            _Way(self, (upstream, client), self._came_down, None if quota is None else quota.down),
        )

    def start(self) -> None:
        """Look at both sockets, and start the clocks."""
        self._idle = self.loop.call_later(self._limits.idle_seconds, self._look)
        if self._limits.total_seconds is not None:
            self._timers.append(self.loop.call_later(self._limits.total_seconds, self.end, Reason.LIMIT_TIME.value))
        for way in self._ways:
            way.watch()

    def end(self, reason: str = "") -> None:
        """It is over; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def stop(self) -> None:
        """Leave nothing behind."""
        for timer in (*self._timers, *(() if self._idle is None else (self._idle,))):
            timer.cancel()
        for way in self._ways:
            way.stop()
        # They know the tunnel: without this, all of it would be kept until the collector looks for circles.
        self._ways = ()

    def one_ended(self) -> None:
        """A direction has ended; with the other one's end all has."""
        if all(way.finished for way in self._ways):
            self.end()

    def _look(self) -> None:
        """One timer a tunnel, set anew only when it fires: bytes that move cost no timer."""
        quiet = self.loop.time() - self.last
        if quiet >= self._limits.idle_seconds:
            self.end(Reason.LIMIT_TIME.value)
        else:
            self._idle = self.loop.call_later(self._limits.idle_seconds - quiet, self._look)

    def _went_up(self, size: int) -> None:
        self.exchange.bytes_up += size

    def _came_down(self, size: int) -> None:
        if self.exchange.first_byte is None:
            self.exchange.response_started(None)
        self.exchange.bytes_down += size


class _Way:
    """One direction. `_held` and the pipe are what was read and is not delivered yet; only one of them is in use.

    `_bulk`: the last read was full, so the next ones go through a pipe.
    """

    __slots__ = (
        "_blind",
        "_bulk",
        "_count",
        "_held",
        "_pending",
        "_pipe",
        "_reading",
        "_share",
        "_sink",
        "_source",
        "_taking",
        "_tunnel",
        "_writing",
        "finished",
    )

    def __init__(
        self,
        tunnel: _Tunnel,
        ends: tuple[socket.socket, socket.socket],
        count: Callable[[int], None],
        share: Share | None,
    ) -> None:
        self._tunnel = tunnel
        self._source, self._sink = ends
        self._blind = Blindness(self._source.fileno())
        self._count = count
        self._share = share
        self._taking: asyncio.Task[None] | None = None
        self._pipe: tuple[int, int] | None = None
        self._pending = 0
        self._held: bytes | memoryview | None = None
        self._bulk = False
        self._reading = False
        self._writing = False
        self.finished = False

    def watch(self) -> None:
        """Read from now on."""
        if not self._reading:
            self._reading = True
            self._tunnel.loop.add_reader(self._source.fileno(), self._on_readable)

    def stop(self) -> None:
        """Take everything off the loop; what is still in a pipe goes with it."""
        self._pause()
        self._rest()
        if self._taking is not None:
            self._taking.cancel()
        if self._pipe is not None:
            self._tunnel.pipes.close_one(self._pipe)
            self._pipe = None

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._tunnel.loop.remove_reader(self._source.fileno())

    def _rest(self) -> None:
        if self._writing:
            self._writing = False
            self._tunnel.loop.remove_writer(self._sink.fileno())

    def _on_readable(self) -> None:
        """INVARIANT fail-closed: what fails in a callback ends the tunnel, not in the loop's log."""
        if not self._reading:
            return
        try:
            self._readable()
            if self._reading and self._blind:
                # All that ever comes is there already, and nobody says so any more.
                self._tunnel.loop.call_soon(self._on_readable)
        except Exception as error:  # noqa: BLE001 - told there
            self._failed(error)

    def _on_writable(self) -> None:
        try:
            self._writable()
        except Exception as error:  # noqa: BLE001 - told there
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OSError):
            # One side broke: there is nobody to deliver to, or nothing more to deliver.
            self._tunnel.end()
        else:
            logger.error("a tunnel failed and is closed", exc_info=error)
            self._tunnel.end(Reason.INTERNAL_ERROR.value)

    def _readable(self) -> None:
        tunnel = self._tunnel
        tunnel.last = tunnel.loop.time()
        for _ in range(_TURN):
            left = tunnel.left
            size = SIZE if left is None else min(SIZE, left)
            if not size:
                tunnel.end(Reason.LIMIT_BYTES.value)
                return
            got = self._take_in(size)
            if got is None:
                break
            if not got:
                self._finish()
                return
            if left is not None:
                tunnel.left = left - got
            if self._share is not None and not self._spend(self._share, got):
                return
            if not self._deliver():
                self._pause()
                self._writing = True
                tunnel.loop.add_writer(self._sink.fileno(), self._on_writable)
                return
            self._bulk = got >= _FEW
            if not self._bulk:
                # There was no more. If there is by now, the loop says so.
                break
        self._release()

    def _spend(self, share: Share, size: int) -> bool:
        """Take what came of the rule's limit; False where that has to wait, and this goes on later."""
        if share.left < size:
            self._pause()
            self._taking = self._tunnel.loop.create_task(self._wait_for(share, size))
            return False
        share.spend(size)
        return True

    async def _wait_for(self, share: Share, size: int) -> None:
        try:
            taken = await share.take(size)
            if taken < size:
                self._shorten(taken)
                self._deliver()
                self._tunnel.end(Reason.LIMIT_BYTES.value)
                return
            # What is left to do is what a sink that has room again has to do.
            self._writing = True
            self._tunnel.loop.add_writer(self._sink.fileno(), self._on_writable)
        except Exception as error:  # noqa: BLE001 - told there
            self._failed(error)

    def _shorten(self, size: int) -> None:
        """No more of what was read goes on."""
        if self._held is not None:
            self._held = self._held[:size]
        else:
            self._pending = size

    def _writable(self) -> None:
        self._tunnel.last = self._tunnel.loop.time()
        if self._deliver():
            self._release()
            self._rest()
            self.watch()

    def _take_in(self, size: int) -> int | None:
        """Read at most `size` bytes: how many, 0 at the end, None if there are none now."""
        if self._bulk and self._pipe is None:
            self._pipe = self._tunnel.pipes.take()
        try:
            if self._pipe is not None:
                with contextlib.suppress(BlockingIOError):
                    self._pending = os.splice(self._source.fileno(), self._pipe[1], size, flags=_FLAGS)
                    if self._pending:
                        return self._pending
                # Nothing is there, or an end; or urgent data, which no pipe takes in, whatever poll says. A read tells.
            data = self._source.recv(min(size, _FEW))
        except BlockingIOError:
            return None
        self._held = data
        return len(data)

    def _deliver(self) -> bool:
        """Pass on what was read; whether all of it is gone."""
        try:
            while self._pending and self._pipe is not None:
                sent = os.splice(self._pipe[0], self._sink.fileno(), self._pending, flags=_FLAGS)
                self._pending -= sent
                self._count(sent)
            while self._held:
                sent = self._sink.send(self._held)
                self._count(sent)
                self._held = memoryview(self._held)[sent:] if sent < len(self._held) else None
        except BlockingIOError:
            return False
        return True

    def _release(self) -> None:
        if self._pipe is not None and not self._pending:
            self._tunnel.pipes.give(self._pipe)
            self._pipe = None

    def _finish(self) -> None:
        """The source has ended, and everything before its end is delivered."""
        self._pause()
        self._release()
        self.finished = True
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)
        self._tunnel.one_ended()

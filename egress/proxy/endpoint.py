"""One end of a carried connection: a non-blocking socket, plain or TLS, and its waits on the event loop.

1. A read is tried first and waited for only when it would block, since TLS may hold bytes that no poll shows; unless
   the last one took less than it could, so that nothing is left but what a poll shows. A write is always tried first.
2. The loop's reader stays registered from wait to wait. It is taken off when it fires and nobody waits, since readiness
   is level-triggered, and before the socket is closed, since the loop must never poll a descriptor of somebody else.
3. One coroutine reads and one writes at a time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING

from egress.proxy.blindness import Blindness

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from egress.gate.body import Buffer

WOULD_READ = (ssl.SSLWantReadError, BlockingIOError, InterruptedError)
CHUNK = 16_384
# SO_LINGER on, for no time: the close is a reset.
_RESET = struct.pack("ii", 1, 0)


class Endpoint:
    """A socket with its readiness. `unasked` is called for bytes, or an end, that come while nobody waits for them."""

    __slots__ = (
        "_blind",
        "_drained",
        "_error",
        "_fd",
        "_loop",
        "_reader",
        "_reading",
        "_writer",
        "_writing",
        "closed",
        "sock",
        "unasked",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._fd = sock.fileno()
        self._blind = Blindness(self._fd)
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._reading = False
        self._writing = False
        self._error: OSError | None = None
        self._drained = False
        self.sock = sock
        self.closed = False
        self.unasked: Callable[[], None] | None = None

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The socket, if it speaks TLS."""
        return self.sock if isinstance(self.sock, ssl.SSLSocket) else None

    # reading

    def receive_now(self) -> bytes | None:
        """What is there, empty at the end; None if nothing is. Raises OSError."""
        try:
            data = self.sock.recv(CHUNK)
        except WOULD_READ:
            return None
        self._drained = len(data) < CHUNK
        return data

    async def receive(self) -> bytes:
        """At least one byte; empty at the end. Raises OSError, also for TLS that ends without saying so."""
        waits = self._drained
        while True:
            if waits:
                # As `readable`, without a coroutine of its own: this is where most of a connection's time is spent.
                if not self._reading:
                    self.watch()
                waiter = self._reader = self._loop.create_future()
                try:
                    await waiter
                finally:
                    if self._reader is waiter:
                        self._reader = None
            try:
                data = self.sock.recv(CHUNK)
            except WOULD_READ:
                waits = True
            else:
                self._drained = len(data) < CHUNK
                return data

    async def receive_into(self, buffer: memoryview) -> int:
        """As many bytes as are there, up to the buffer's size, at least one; 0 at the end. Raises OSError."""
        if self._error is not None:
            raise self._error
        self._drained = False
        while True:
            try:
                have = self.sock.recv_into(buffer)
            except WOULD_READ:
                await self.readable()
            else:
                return have if not have or self.tls is None else self._gather(buffer, have)

    def _gather(self, buffer: memoryview, have: int) -> int:
        """Add the TLS records that are there already, so that one write carries several on."""
        while len(buffer) - have >= CHUNK:
            try:
                more = self.sock.recv_into(buffer[have:])
            except WOULD_READ:
                break
            except OSError as error:
                # What came before it counts; the next call meets it, since TLS may then pretend a clean end.
                self._error = error
                break
            if not more:
                break
            have += more
        return have

    async def readable(self) -> None:
        """Wait until there is something to read, or an end."""
        if not self._reading:
            self.watch()
        waiter = self._reader = self._loop.create_future()
        try:
            await waiter
        finally:
            if self._reader is waiter:
                self._reader = None

    def _on_readable(self) -> None:
        if self._blind:
            # The next wait begins anew, and who waits for room learns of it by writing.
            self.pause()
            self._rest()
            self._on_writable()
        waiter = self._reader
        if waiter is not None:
            self._reader = None
            if not waiter.done():
                waiter.set_result(None)
            return
        self.pause()
        if self.unasked is not None:
            self.unasked()

    def watch(self) -> None:
        """Let `unasked` be told of what comes from here on."""
        if not self._reading and not self.closed:
            self._loop.add_reader(self._fd, self._on_readable)
            self._reading = True

    def pause(self) -> None:
        """Look at nothing that comes until the next wait."""
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    # writing

    async def send(self, data: Buffer) -> None:
        """Send all of it. Raises OSError. What would block is copied first: the caller may use its buffer again."""
        sent = self.send_now(data)
        if sent != len(data):
            await self.send_rest(data, sent)

    def send_now(self, data: Buffer) -> int:
        """Send what can be sent without waiting; how much that was. Raises OSError."""
        try:
            return self.sock.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            return 0

    async def send_rest(self, data: Buffer, sent: int) -> None:
        """Send what `send_now` did not. Raises OSError."""
        rest = memoryview(bytes(memoryview(data)[sent:]))
        while rest:
            try:
                sent = self.sock.send(rest)
            except ssl.SSLWantReadError:
                await self.readable()
            except (ssl.SSLWantWriteError, BlockingIOError, InterruptedError):
                await self.writable()
            else:
                rest = rest[sent:]

    async def writable(self) -> None:
        """Wait until there is room to write."""
        waiter = self._writer = self._loop.create_future()
        self._loop.add_writer(self._fd, self._on_writable)
        self._writing = True
        try:
            await waiter
        finally:
            self._writer = None
            self._rest()

    def _rest(self) -> None:
        """Look for room no more. Only for a writer of our own: the descriptor's number may be another's by now."""
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def _on_writable(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # TLS and the end

    def secure(self, wrap: Callable[[socket.socket], ssl.SSLSocket]) -> None:
        """Speak TLS from here on: `wrap` takes the socket over, and may fail with it closed."""
        self.pause()
        self._rest()
        self.sock = wrap(self.sock)

    async def handshake(self) -> None:
        """Finish the TLS handshake. Raises OSError, among them ssl.SSLError."""
        wrapped = self.tls
        if wrapped is None:
            raise OSError("the connection does not speak TLS")
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await self.readable()
            except ssl.SSLWantWriteError:
                await self.writable()
            else:
                return

    def say_no_more(self) -> None:
        """Tell the peer that nothing more comes, and go on reading."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def release(self) -> socket.socket:
        """Stop looking at the socket and hand it out, open."""
        self._forget()
        return self.sock

    def close(self) -> None:
        """Close it: politely where TLS allows that without waiting. Safe to call again."""
        if self.closed:
            return
        wrapped = self.tls
        self._forget()
        if wrapped is not None:
            with contextlib.suppress(OSError, ValueError):
                wrapped.unwrap()
        with contextlib.suppress(OSError):
            self.sock.close()

    def abort(self) -> None:
        """Close it so that the peer sees a break, not an end: what was sent is not whole."""
        if self.closed:
            return
        self._forget()
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            self.sock.close()

    def _forget(self) -> None:
        self.pause()
        self._rest()
        self.closed = True
        for waiter in (self._reader, self._writer):
            if waiter is not None and not waiter.done():
                waiter.set_exception(ConnectionAbortedError("closed"))

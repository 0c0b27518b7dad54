"""Datagrams and connections with DNS questions: read, answered, bounded in number, size and time.

1. datagrams   from addresses and ports that could be a client's; beyond a number that wait, they are not answered, and
               who asks will ask again
2. connections each message is two bytes of length and the message (RFC 7766); several may be under way on one, and are
               answered in whatever order; a slow client is left behind by deadlines
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import Counter
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from egress.gate.roster import room_of
from egress.proxy.dns.message import DATAGRAM
from egress.proxy.peers import peer_of, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from egress.gate.exchange import Client
    from egress.gate.gate import Gate
    from egress.proxy.dns.answering import Answering
    from egress.proxy.entrance import Entrance

logger = logging.getLogger(__name__)

# Read or accepted at once before everything else gets its turn.
_TURN: Final = 32
_DATAGRAMS_AT_MOST: Final = 1_024
_CONNECTIONS_AT_MOST: Final = 256
_CONNECTIONS_OF_ONE: Final = 32
# Of one connection, under way at once.
_PIPELINED: Final = 16
_UNREAD_BYTES: Final = 65_536
_IDLE_SECONDS: Final = 10.0
_MESSAGE_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 5.0
_EXHAUSTED_SECONDS: Final = 0.2
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_DNS_PORT: Final = 53
_LAST_SYSTEM_PORT: Final = 1_023


def may_ask(address: str, port: int) -> bool:
    """Whether a datagram from there could be a client's question.

    Not from the ports of other services: one that answers whatever it gets (RFC 862 to 867) would be answered in turn.
    """
    if not port or (port <= _LAST_SYSTEM_PORT and port != _DNS_PORT):
        return False
    try:
        source = ip_address(address)
    except ValueError:
        return False
    return not (source.is_multicast or source.is_unspecified or str(source) == "255.255.255.255")


class DnsServer:
    """Serves listening sockets on the running loop."""

    def __init__(self, gate: Gate, answering: Answering) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = gate
        self._answering = answering
        self._sockets: dict[socket.socket, Entrance] = {}
        self._own: set[tuple[str, int]] = set()
        self._datagrams: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._of_one: Counter[str] = Counter()

    def serve(self, sock: socket.socket, entrance: Entrance) -> None:
        """Answer on a socket, whose owner keeps it open."""
        sock.setblocking(False)  # noqa: FBT003 - the method takes it so
        self._sockets[sock] = entrance
        self._own.add(sock.getsockname()[:2])
        self._loop.add_reader(sock.fileno(), self._reader(sock), sock)

    def stop(self) -> None:
        """Take nothing new; what is under way goes on."""
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
        self._sockets.clear()

    async def close(self) -> None:
        """End everything, and record what is left."""
        self.stop()
        for task in self._connections:
            task.cancel()
        tasks = self._datagrams | self._connections
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        self._answering.ledger.close()

    def _reader(self, sock: socket.socket) -> Any:
        return self._read if sock.type is socket.SOCK_DGRAM else self._accept

    # datagrams

    def _read(self, sock: socket.socket) -> None:
        for _ in range(_TURN):
            try:
                data, peer = sock.recvfrom(DATAGRAM + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                logger.warning("a datagram could not be read: %s", os.strerror(error.errno or 0))
                return
            if not may_ask(peer[0], peer[1]) or tuple(peer[:2]) in self._own:
                continue
            if len(self._datagrams) < _DATAGRAMS_AT_MOST:
                self._run(self._datagrams, self._answer_datagram(sock, data, peer, self._sockets[sock]))

    async def _answer_datagram(self, sock: socket.socket, data: bytes, peer: Any, entrance: Entrance) -> None:
        answer = await self._answering.answer(data, self._client(sock, peer, entrance), stream=False)
        if answer is not None:
            # What the kernel has no room for is lost, as any datagram may be.
            with contextlib.suppress(OSError):
                sock.sendto(answer, peer)

    # connections

    def _accept(self, listening: socket.socket) -> None:
        entrance = self._sockets[listening]
        for _ in range(_TURN):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.warning("a connection could not be accepted: %s", os.strerror(error.errno or 0))
                if error.errno in _EXHAUSTED:
                    self._loop.remove_reader(listening.fileno())
                    self._loop.call_later(_EXHAUSTED_SECONDS, self._resume, listening)
                return
            who = partial(self._client, sock, peer, entrance)
            # Not an address's: a sandbox of many addresses would have as many times its part.
            room = room_of(who(), str(peer[0]))
            if len(self._connections) >= _CONNECTIONS_AT_MOST or self._of_one[room] >= _CONNECTIONS_OF_ONE:
                sock.close()
                continue
            self._of_one[room] += 1
            task = self._run(self._connections, self._carry(sock, who))
            task.add_done_callback(partial(self._left, sock, room))

    def _left(self, sock: socket.socket, room: str, _task: asyncio.Task[None]) -> None:
        sock.close()
        self._of_one[room] -= 1
        if not self._of_one[room]:
            del self._of_one[room]

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    async def _carry(self, sock: socket.socket, who: Callable[[], Client]) -> None:
        # A client that is gone, or too slow: nobody is left to tell.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            prepare(sock)
            # What a client does not take fills this much of the kernel's memory, and no more.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)
            reader, writer = await asyncio.open_connection(sock=sock, limit=DATAGRAM)
            answers: set[asyncio.Task[None]] = set()
            try:
                await self._converse(reader, writer, who, answers)
                if answers:
                    await asyncio.wait(answers)
            finally:
                for answer in answers:
                    answer.cancel()
                writer.transport.abort()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        who: Callable[[], Client],
        answers: set[asyncio.Task[None]],
    ) -> None:
        """Read until the client has said all, one message after the other; what is under way is in `answers`."""
        room = asyncio.Semaphore(_PIPELINED)
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                await room.acquire()
                first = await reader.read(1)
            if not first:
                return
            async with asyncio.timeout(_MESSAGE_SECONDS):
                length = int.from_bytes(first + await reader.readexactly(1))
                if length > DATAGRAM:
                    return
                data = await reader.readexactly(length)
            # Anew for each: a connection may outlive the sandbox that it was, and see another of its name.
            self._run(answers, self._answer_message(data, writer, who(), room))

    async def _answer_message(
        self, data: bytes, writer: asyncio.StreamWriter, client: Client, room: asyncio.Semaphore
    ) -> None:
        try:
            answer = await self._answering.answer(data, client, stream=True)
            if answer is not None:
                writer.write(len(answer).to_bytes(2) + answer)
                async with asyncio.timeout(_MESSAGE_SECONDS):
                    await writer.drain()
        except OSError:
            # It does not read: the connection ends, and with it everything on it.
            writer.transport.abort()
        finally:
            # Not before it was taken: answers that nobody reads are as many as are under way.
            room.release()

    def _client(self, sock: socket.socket, peer: Any, entrance: Entrance) -> Client:
        return self._gate.arrived(*peer_of(sock, peer, entrance.address), entrance.road)

    def _run(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(partial(self._ended, tasks))
        return task

    def _ended(self, tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a DNS question failed", exc_info=task.exception())

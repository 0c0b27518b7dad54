"""The tunnel lane: every byte, every end, every limit; nothing left on the loop, and no spinning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import uvloop

from egress.proxy.pipes import PipePool
from egress.proxy.tunnel import TunnelLimits, carry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from egress.gate.exchange import Exchange

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
NO_LIMITS = TunnelLimits(30)


@dataclass
class Counted:
    """As much of an exchange as a tunnel touches."""

    bytes_up: int = 0
    bytes_down: int = 0
    first_byte: float | None = None
    quota: None = None
    statuses: list[int | None] = field(default_factory=list)

    def response_started(self, status: int | None) -> None:
        """The first byte came down."""
        self.statuses.append(status)
        self.first_byte = 1.0


@dataclass
class Stage:
    """A tunnel between two TCP connections: the far ends are `client` and `server`."""

    client: socket.socket
    near_client: socket.socket
    near_server: socket.socket
    server: socket.socket
    pipes: PipePool
    exchange: Counted = field(default_factory=Counted)

    async def carry(self, limits: TunnelLimits = NO_LIMITS) -> str:
        """Run the tunnel."""
        exchange = cast("Exchange", self.exchange)
        return await carry(self.near_client, self.near_server, exchange, limits, self.pipes)


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    near.setblocking(False)  # noqa: FBT003 - the method takes it so
    far.settimeout(10)
    return far, near


@contextlib.contextmanager
def staged(pipes: PipePool | None = None) -> Iterator[Stage]:
    """A stage, all of whose descriptors are closed afterwards."""
    client, near_client = connected()
    server, near_server = connected()
    with client, near_client, near_server, server:
        stage = Stage(client, near_client, near_server, server, PipePool() if pipes is None else pipes)
        yield stage
        stage.pipes.close()


def play(loop: str, scene: Callable[[Stage], Awaitable[None]], pipes: PipePool | None = None) -> Stage:
    """Play a scene on a loop; nothing may be left registered on it, and no callback may have failed."""
    failures: list[object] = []
    with staged(pipes) as stage:
        running = LOOPS[loop]()
        running.set_exception_handler(lambda _, context: failures.append(context))
        try:
            running.run_until_complete(asyncio.wait_for(scene(stage), 20))
            for sock in (stage.near_client, stage.near_server):
                assert not running.remove_reader(sock.fileno())
                assert not running.remove_writer(sock.fileno())
        finally:
            running.close()
    assert failures == []
    return stage


async def in_thread[T](work: Callable[[], T]) -> T:
    """Run a far end's blocking work."""
    return await asyncio.to_thread(work)


def descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.fixture(params=sorted(LOOPS))
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop."""
    return str(request.param)


class NoPipes(PipePool):
    """A process without a descriptor left."""

    def take(self) -> None:
        """None."""
        return


@pytest.mark.parametrize("pipes", [PipePool, NoPipes])
def test_every_byte_passes_both_ways_and_is_counted(loop: str, pipes: type[PipePool]) -> None:
    """Also without descriptors for pipes, by copying alone."""
    up, down = os.urandom(700_000), os.urandom(900_000)

    async def scene(stage: Stage) -> None:
        def client() -> bytes:
            sender = threading.Thread(target=lambda: (stage.client.sendall(up), stage.client.shutdown(socket.SHUT_WR)))
            sender.start()
            got = read_all(stage.client)
            sender.join()
            return got

        def server() -> bytes:
            sender = threading.Thread(
                target=lambda: (stage.server.sendall(down), stage.server.shutdown(socket.SHUT_WR))
            )
            sender.start()
            got = read_all(stage.server)
            sender.join()
            return got

        ended, at_client, at_server = await asyncio.gather(stage.carry(), in_thread(client), in_thread(server))
        assert (ended, at_client == down, at_server == up) == ("", True, True)

    stage = play(loop, scene, pipes())
    assert (stage.exchange.bytes_up, stage.exchange.bytes_down) == (len(up), len(down))
    assert stage.exchange.statuses == [None]


def test_an_end_is_passed_on_and_the_other_direction_goes_on(loop: str) -> None:
    """Half-close: a request that ends by an end still gets its answer."""

    async def scene(stage: Stage) -> None:
        def server() -> None:
            assert read_all(stage.server) == b"question"
            stage.server.sendall(b"answer")
            stage.server.close()

        stage.client.sendall(b"question")
        stage.client.shutdown(socket.SHUT_WR)
        ended, _, got = await asyncio.gather(
            stage.carry(), in_thread(server), in_thread(lambda: read_all(stage.client))
        )
        assert (ended, got) == ("", b"answer")

    play(loop, scene)


def test_a_receiver_that_does_not_read_stops_its_sender_without_spinning(loop: str) -> None:
    """Back-pressure: the sender blocks, and the loop sleeps meanwhile."""

    async def scene(stage: Stage) -> None:
        task = asyncio.ensure_future(stage.carry())
        stage.client.setblocking(False)  # noqa: FBT003 - the method takes it so
        sent = 0
        for _ in range(30):
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += stage.client.send(bytes(65536))
            await asyncio.sleep(0.01)
        before = sum(os.times()[:2])
        await asyncio.sleep(0.5)
        spent = sum(os.times()[:2]) - before
        assert spent < 0.25, "the loop spins while nothing can move"
        assert stage.exchange.bytes_up <= sent < 64 << 20
        total = sent
        stage.client.shutdown(socket.SHUT_WR)
        stage.server.shutdown(socket.SHUT_WR)
        assert len(await in_thread(lambda: read_all(stage.server))) == total
        assert await task == ""

    play(loop, scene)


@pytest.mark.parametrize("who", ["client", "server"])
def test_urgent_data_in_bulk_stops_nothing_and_does_not_spin(loop: str, who: str) -> None:
    """Splicing stops before it for good, while poll says that there is more; after an end it says that this is all."""
    size = 200_000

    async def scene(stage: Stage) -> None:
        sender, receiver = (stage.client, stage.server) if who == "client" else (stage.server, stage.client)
        carrying = asyncio.ensure_future(stage.carry())

        def send() -> None:
            for _ in range(2):
                sender.sendall(bytes(size))
                sender.send(b"!", socket.MSG_OOB)
            sender.sendall(bytes(size))

        def receive() -> None:
            left = 3 * size
            while left:
                left -= len(receiver.recv(min(left, 65_536)))

        await asyncio.gather(in_thread(receive), in_thread(send))
        await in_thread(send)
        sender.shutdown(socket.SHUT_WR)
        assert (await in_thread(lambda: read_all(receiver))).count(0) >= 3 * size
        receiver.shutdown(socket.SHUT_WR)
        assert not await asyncio.wait_for(carrying, 5)

    play(loop, scene)


@pytest.mark.parametrize("who", ["client", "server"])
def test_urgent_data_before_an_end_that_is_there_stops_nothing(loop: str, who: str) -> None:
    """Splicing says before it that this is all, where the end has come already."""
    size = 200_000

    async def scene(stage: Stage) -> None:
        sender, receiver = (stage.client, stage.server) if who == "client" else (stage.server, stage.client)
        near = stage.near_client if who == "client" else stage.near_server
        # Room for all of it, so that the end is there before the first read.
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sender.sendall(bytes(size))
        sender.send(b"!", socket.MSG_OOB)
        sender.sendall(bytes(size))
        sender.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.1)
        carrying = asyncio.ensure_future(stage.carry())
        assert (await in_thread(lambda: read_all(receiver))).count(0) == 2 * size
        receiver.shutdown(socket.SHUT_WR)
        assert not await asyncio.wait_for(carrying, 5)

    play(loop, scene)


def test_an_ended_side_does_not_spin_while_the_other_idles(loop: str) -> None:
    """An end is readable for ever; nobody looks at it any more."""

    async def scene(stage: Stage) -> None:
        task = asyncio.ensure_future(stage.carry())
        stage.client.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.1)
        before = sum(os.times()[:2])
        await asyncio.sleep(0.5)
        assert sum(os.times()[:2]) - before < 0.25
        stage.server.close()
        assert await task == ""

    play(loop, scene)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_ends_both(loop: str, who: str) -> None:
    """Nobody is left to deliver to."""

    async def scene(stage: Stage) -> None:
        task = asyncio.ensure_future(stage.carry())
        await asyncio.sleep(0.05)
        far: socket.socket = getattr(stage, who)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        far.close()
        assert await task == ""

    play(loop, scene)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(TunnelLimits(0.2), "limit-time"), (TunnelLimits(30, total_seconds=0.2), "limit-time")],
)
def test_time_limits_end_a_tunnel(loop: str, limits: TunnelLimits, reason: str) -> None:
    """Idle, and in all."""

    async def scene(stage: Stage) -> None:
        assert await stage.carry(limits) == reason

    play(loop, scene)


def test_bytes_that_move_keep_a_tunnel_from_being_idle(loop: str) -> None:
    """The idle clock starts anew with each."""

    async def scene(stage: Stage) -> None:
        task = asyncio.ensure_future(stage.carry(TunnelLimits(0.6)))
        for _ in range(10):
            stage.client.sendall(b"x")
            await asyncio.sleep(0.1)
        assert not task.done()
        assert await task == "limit-time"

    play(loop, scene)


@pytest.mark.parametrize("pipes", [PipePool, NoPipes])
@pytest.mark.parametrize("allowed", [0, 1, 1000, 100_000])
def test_a_byte_limit_is_exact(loop: str, allowed: int, pipes: type[PipePool]) -> None:
    """Both ways together, and never one more."""

    async def scene(stage: Stage) -> None:
        stage.client.sendall(b"u" * (allowed // 2 + 1))
        stage.server.sendall(b"d" * (allowed // 2 + 1))
        assert await stage.carry(TunnelLimits(5, bytes_at_most=allowed)) == "limit-bytes"

    stage = play(loop, scene, pipes())
    assert stage.exchange.bytes_up + stage.exchange.bytes_down <= allowed


def test_a_cancelled_tunnel_leaves_nothing_behind(loop: str) -> None:
    """Cut by a reload at any moment: no reader, no writer, no pipe with somebody's bytes in it."""

    async def scene(stage: Stage) -> None:
        task = asyncio.ensure_future(stage.carry())
        stage.client.setblocking(False)  # noqa: FBT003 - the method takes it so
        with contextlib.suppress(BlockingIOError):
            while True:
                stage.client.send(bytes(65536))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(len(stage.pipes)):
            pipe = stage.pipes.take()
            assert pipe is not None
            with pytest.raises(BlockingIOError):
                os.read(pipe[0], 1)
            stage.pipes.close_one(pipe)

    play(loop, scene)


def test_an_idle_tunnel_holds_no_pipe(loop: str) -> None:
    """A descriptor each way for each of ten thousand would be too many."""

    async def scene(stage: Stage) -> None:
        before = descriptors()
        task = asyncio.ensure_future(stage.carry())
        data = os.urandom(100_000)
        stage.client.sendall(data)
        with stage.server.makefile("rb") as arrived:
            assert await in_thread(lambda: arrived.read(len(data))) == data
        await asyncio.sleep(0.05)
        assert descriptors() - before == 2 * len(stage.pipes)
        assert len(stage.pipes) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(loop, scene)


def test_a_fault_in_a_callback_ends_the_tunnel(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """INVARIANT fail-closed: not in the loop's log, and not as a tunnel that hangs."""

    class Broken(PipePool):
        def take(self) -> tuple[int, int]:
            raise LookupError("broken on purpose")

    async def scene(stage: Stage) -> None:
        stage.client.sendall(bytes(100_000))
        assert await stage.carry() == "internal-error"

    play(loop, scene, Broken())
    assert "a tunnel failed" in caplog.text


@pytest.mark.parametrize("size", [10, 3 << 20], ids=["few", "bulk"])
def test_a_break_right_behind_bytes_ends_the_tunnel(loop: str, size: int) -> None:
    """Both come in one turn of the loop: the bytes go on, and the tunnel ends, though its other side says nothing."""
    data = os.urandom(size)

    async def scene(stage: Stage) -> None:
        # Room for all of it, so that it is there at once.
        stage.near_server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        tunnel = asyncio.ensure_future(stage.carry())
        reading = asyncio.ensure_future(in_thread(lambda: read_all(stage.client)))
        await asyncio.sleep(0.05)
        stage.server.setblocking(False)  # noqa: FBT003 - the method takes it so
        with contextlib.suppress(BlockingIOError):
            stage.server.sendall(data)
        stage.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stage.server.close()
        assert await asyncio.wait_for(tunnel, 5) == ""
        stage.near_client.shutdown(socket.SHUT_WR)
        got = await reading
        assert data.startswith(got)
        assert got

    play(loop, scene)


def test_a_break_behind_more_than_is_taken_leaves_nothing_in_a_kept_pipe(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: what waits for room is never read over, and no other tunnel gets what is left of it."""
    # Many turns, several of which are due when there is no more room.
    monkeypatch.setattr("egress.proxy.tunnel._TURN", 1)
    monkeypatch.setattr("egress.proxy.tunnel.SIZE", 16_384)
    data = os.urandom(6 << 20)

    async def scene(stage: Stage) -> None:
        stage.near_server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        stage.near_client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 << 10)
        stage.server.setblocking(False)  # noqa: FBT003 - the method takes it so
        with contextlib.suppress(BlockingIOError):
            stage.server.sendall(data)
        stage.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stage.server.close()
        tunnel = asyncio.ensure_future(stage.carry())
        await asyncio.sleep(0.2)
        reading = asyncio.ensure_future(in_thread(lambda: read_all(stage.client)))
        assert await asyncio.wait_for(tunnel, 5) == ""
        stage.near_client.shutdown(socket.SHUT_WR)
        got = await reading
        assert data.startswith(got)
        assert got
        pipe = stage.pipes.take()
        assert pipe is not None
        with pytest.raises(BlockingIOError):
            os.read(pipe[0], 1)
        stage.pipes.close_one(pipe)

    play(loop, scene)

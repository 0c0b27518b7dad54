"""An endpoint on each kind of loop: what a peer said before it broke off is read, and then the break is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import uvloop

from egress.proxy.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
RESET = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The peer's end of a TCP connection, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    near.setblocking(False)  # noqa: FBT003 - the method takes it so
    with far, near:
        yield far, near


def break_off(far: socket.socket, said: bytes) -> None:
    """Say something and break the connection, before anybody looks."""
    far.sendall(said)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    far.close()


async def by_bytes(endpoint: Endpoint) -> bytes:
    """Read as heads are read."""
    return await endpoint.receive()


async def into_buffer(endpoint: Endpoint) -> bytes:
    """Read as bodies are read."""
    buffer = memoryview(bytearray(1024))
    return bytes(buffer[: await endpoint.receive_into(buffer)])


@pytest.mark.parametrize("read", [by_bytes, into_buffer])
@pytest.mark.parametrize("writes", [False, True], ids=["reading", "reading and writing"])
@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_a_break_right_behind_bytes_is_noticed(
    loop: str, read: Callable[[Endpoint], Awaitable[bytes]], *, writes: bool
) -> None:
    """Both come in one turn of the loop: the bytes are read, and the next wait ends with the break, not never."""

    async def play(far: socket.socket, near: socket.socket) -> None:
        endpoint = Endpoint(asyncio.get_running_loop(), near)
        first = asyncio.ensure_future(read(endpoint))
        writing = asyncio.ensure_future(endpoint.send(b"x" * (16 << 20))) if writes else None
        await asyncio.sleep(0.05)
        break_off(far, b"last words")
        async with asyncio.timeout(5):
            assert await first == b"last words"
            if writing is None:
                with pytest.raises(ConnectionResetError):
                    await read(endpoint)
            else:
                # The kernel tells one of the two.
                ends = await asyncio.gather(read(endpoint), writing, return_exceptions=True)
                assert any(isinstance(end, ConnectionResetError) for end in ends)
                assert ends[0] == b"" or isinstance(ends[0], OSError)
                assert isinstance(ends[1], OSError)
        endpoint.close()

    with connected() as (far, near):
        running = LOOPS[loop]()
        try:
            running.run_until_complete(play(far, near))
        finally:
            running.close()

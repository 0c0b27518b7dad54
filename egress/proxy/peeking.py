"""Looking at what a client has sent, and leaving it where it is for whoever reads it afterwards.

What is not whole yet is waited for by a low-water mark, never by looking again and again; by looking again less and
less often where the mark says nothing: on a unix socket, whose poll knows no such mark, and where it is reached by
bytes that looking does not show, such as those behind urgent data.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING, Final

from egress.proxy.endpoint import WOULD_READ

if TYPE_CHECKING:
    from egress.proxy.connection import Connection

# How long to wait before looking again for the rest where no mark tells of it: at first, and at most.
_LOOK_FIRST_SECONDS: Final = 0.001
_LOOK_LAST_SECONDS: Final = 0.05


async def peek(connection: Connection, size: int, seen: int = 0) -> bytes:
    """What is there to read, more than `seen` bytes, left where it is; empty at the end."""
    sock = connection.endpoint.sock
    raised = False
    pause = 0.0
    marked = not seen or sock.family is not socket.AF_UNIX
    try:
        while True:
            # First, so that what comes before the end is seen.
            ended = (raised or pause > 0) and _ended(sock)
            try:
                data = sock.recv(size, socket.MSG_PEEK)
            except WOULD_READ:
                await connection.endpoint.readable()
                continue
            if not data or len(data) > seen:
                return data
            if ended:
                return b""
            if raised or not marked:
                pause = min(max(pause * 2, _LOOK_FIRST_SECONDS), _LOOK_LAST_SECONDS)
                await asyncio.sleep(pause)
                continue
            # Readable is from here on only what has grown, or ended.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
            raised = True
            await connection.endpoint.readable()
    finally:
        if raised:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _ended(sock: socket.socket) -> bool:
    """Whether the peer has said that nothing more comes, whatever is still to be read."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))

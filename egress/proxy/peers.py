"""Who is at the other end of a connection that was accepted, as the kernel says it.

1. of TCP, the address; of a unix socket, the user at the time of `connect` (SO_PEERCRED), so that neither what the
   client says nor what becomes of its process afterwards counts
2. only a unix socket has a user, and none has an address, so that no text of one is ever taken for the other
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from egress.gate.roster import ClientPlace

if TYPE_CHECKING:
    from egress.config import ListenAddress

# `struct ucred`: process, user, group.
_CREDENTIALS: Final = struct.Struct("iII")


def peer_of(sock: socket.socket, name: Any, listener: ListenAddress | None) -> tuple[str, ClientPlace]:
    """How rows name a client, and where it came from. `name`: as `accept` gave it. Raises OSError."""
    if sock.family is socket.AF_UNIX:
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        told = f"unix:uid={uid}"
        return told, ClientPlace(told, listener, uid)
    address, port = str(name[0]), name[1]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}", ClientPlace(address, listener)


def prepare(sock: socket.socket) -> None:
    """Set up an accepted socket."""
    sock.setblocking(False)  # noqa: FBT003 - the method takes it so
    with contextlib.suppress(OSError):
        # A byte out of band is one of the stream: what is looked at must be what is read afterwards.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        if sock.family is not socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

"""Connections on their way from the workers to the mitm process: the socket itself, and what is known of it.

All workers send into one queue, whose both ends the supervisor holds open: what waits in it survives a mitm process
that dies, and what waits there while none runs has one started.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from egress.config import UnixListener
from egress.gate.exchange import Client
from egress.gate.roster import ClientPlace
from egress.policy import Lane
from egress.server.channel import Gone, Word, close_all, encode, receive, send

if TYPE_CHECKING:
    from collections.abc import Iterator

type Destination = tuple[str, int] | None

# Taken at once before everything else gets its turn.
_TURN = 32


class HandedOver:
    """The workers' end (see `egress.proxy.handing`)."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def hand_over(self, sock: socket.socket, client: Client, destination: tuple[str, int] | None) -> bool:
        """Give a socket away; its caller closes its own copy. False: the queue is full."""
        who = client.sandbox, client.peer, _plain(client.place), client.settled, client.road
        try:
            return send(self._end, encode(Word.HANDED, who, destination), sock.fileno())
        except Gone:
            return False


def take_handed(end: socket.socket) -> Iterator[tuple[socket.socket, Client, Destination]]:
    """What waits in the queue now, a turn's worth of it."""
    with contextlib.suppress(Gone):
        for _ in range(_TURN):
            message = receive(end)
            if message is None:
                return
            values, descriptors = message
            match values, descriptors:
                case (Word.HANDED, (sandbox, peer, whence, settled, road), destination), [descriptor]:
                    client = Client(sandbox, peer, Lane.MITM.value, _place(whence), settled, road)
                    yield socket.socket(fileno=descriptor), client, destination
                case _:
                    # No descriptor was left for it: the connection is closed already.
                    close_all(descriptors)


def _plain(place: ClientPlace | None) -> tuple[object, ...] | None:
    if place is None:
        return None
    listener = place.listener
    return place.address, listener.path if isinstance(listener, UnixListener) else listener, place.uid


def _place(whence: tuple[str, tuple[str, int] | str | None, int | None] | None) -> ClientPlace | None:
    if whence is None:
        return None
    address, listener, uid = whence
    return ClientPlace(address, UnixListener(listener) if isinstance(listener, str) else listener, uid)


def drop_handed(end: socket.socket) -> None:
    """Close whatever waits in the queue."""
    while taken := [sock for sock, _, _ in take_handed(end)]:
        for sock in taken:
            sock.close()

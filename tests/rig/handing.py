"""The way from a front to the mitm lane where both are in one process: what the queue between the two does."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.gate.exchange import Client
    from egress.mitm.listener import MitmListener


class InProcess:
    """Gives connections to a lane on the same loop. `given`: with which destination each was."""

    def __init__(self, lane: MitmListener) -> None:
        self._lane = lane
        self._carried: set[asyncio.Task[None]] = set()
        self.given: list[tuple[str, int] | None] = []

    def hand_over(self, sock: socket.socket, client: Client, destination: tuple[str, int] | None) -> bool:
        """Give a socket away; its caller closes its own copy."""
        self.given.append(destination)
        own = socket.socket(fileno=os.dup(sock.fileno()))
        carried = asyncio.ensure_future(self._lane.take(own, client, destination))
        self._carried.add(carried)
        carried.add_done_callback(self._carried.discard)
        return True

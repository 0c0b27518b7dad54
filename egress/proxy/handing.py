"""Giving an accepted connection to the process that carries what the lanes here do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

    from egress.gate.exchange import Client


class HandOver(Protocol):
    """The way to that process."""

    def hand_over(self, sock: socket.socket, client: Client, destination: tuple[str, int] | None) -> bool:
        """Give a socket away; its caller closes its own copy.

        `destination` None: nothing of the connection was consumed. Else its CONNECT was answered, and the next byte is
        the first inside the tunnel. False: it could not be given now, since too many wait already.
        """


class NoHandOver:
    """Where no such process is."""

    def hand_over(self, sock: socket.socket, client: Client, destination: tuple[str, int] | None) -> bool:
        """Never."""
        del sock, client, destination
        return False

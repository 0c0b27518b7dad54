"""The front's limits, and the room that connections take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """Times in seconds, counts of one worker except where a `Slots` shares them.

    `head_seconds`: from the accept, and from the first byte of a later head, to its last; after a CONNECT, to the end
    of the client's handshake. `tls_seconds`: the handshake with an upstream. `idle_seconds`: no byte either way.
    `tunnel_*`: of a tunnel in all. `upstream_*`: kept upstream connections.
    """

    head_seconds: float = 10.0
    tls_seconds: float = 10.0
    idle_seconds: float = 600.0
    tunnel_seconds: float | None = None
    tunnel_bytes: int | None = None
    upstream_kept: int = 256
    upstream_idle_seconds: float = 60.0
    upstream_lifetime_seconds: float = 600.0


class Slots(Protocol):
    """Room for connections, shared by all workers."""

    def try_take(self) -> bool | None:
        """Take one: True or False, or None if that cannot be said without waiting."""

    async def take(self) -> bool:
        """Take one, or learn that there is none."""

    def give_back(self) -> None:
        """One connection has ended."""


class OwnSlots:
    """Room of one process's own."""

    def __init__(self, room: int) -> None:
        self._room = room

    def try_take(self) -> bool | None:
        """Take one, if there is one."""
        if self._room <= 0:
            return False
        self._room -= 1
        return True

    async def take(self) -> bool:
        """Take one, if there is one."""
        return bool(self.try_take())

    def give_back(self) -> None:
        """One connection has ended."""
        self._room += 1


class OwnClientSlots:
    """Room of one process's own for each client address."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._of: dict[str, OwnSlots] = {}

    def of(self, address: str) -> Slots:
        """The room of one address."""
        return self._of.setdefault(address, OwnSlots(self._room))

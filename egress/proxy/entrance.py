"""What a listening socket is for, and so which road the connections to it take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from egress.config import ListenAddress
    from egress.policy import Address, Host


class Kind(StrEnum):
    """`PROXY`: clients say where they want to go. `ENDPOINTS`: the identity endpoints, never a proxy.

    `FORWARD`: all go to one destination. `TRANSPARENT`: clients were on their way to somewhere else, and know of no
    proxy. `DNS`: questions for names, over TCP, and, where the socket is one for datagrams, over UDP.
    """

    PROXY = "proxy"
    ENDPOINTS = "identity"
    FORWARD = "forward"
    TRANSPARENT = "transparent"
    DNS = "dns"


@dataclass(frozen=True, slots=True)
class Entrance:
    """`address`: as the configuration calls the listener; None where it has no name.

    `destination`: of a forward. `original`: of a transparent listener, where a connection to it was on its way to; None
    where nobody knows.
    """

    kind: Kind = Kind.PROXY
    address: ListenAddress | None = None
    destination: tuple[Host, int] | None = None
    original: Callable[[socket], tuple[Address, int] | None] | None = None

    @property
    def road(self) -> str | None:
        """The road of its clients as the audit has it; None: HTTP to a proxy, until they say otherwise."""
        return None if self.kind is Kind.PROXY else self.kind.value

    @property
    def silent(self) -> bool:
        """Whether clients await no word of ours: what they get must be the destination's, or a reset."""
        return self.kind in {Kind.FORWARD, Kind.TRANSPARENT}


PROXY: Final = Entrance()

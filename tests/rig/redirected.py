"""Connections as a firewall's rule would have brought them: where each was on its way to is the test's to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from egress.proxy.entrance import Entrance, Kind

if TYPE_CHECKING:
    import socket

    from egress.policy import Address

ELSEWHERE = "192.0.2.7"


@dataclass
class Redirect:
    """An entrance to which all connections were on their way to one destination; None: nobody knows where to."""

    to: tuple[Address, int] | None = None

    def entrance(self) -> Entrance:
        """A transparent listener."""
        return Entrance(Kind.TRANSPARENT, original=self._original)

    def aim(self, address: str, port: int) -> None:
        """From now on they were on their way there."""
        self.to = ip_address(address), port

    def _original(self, _: socket.socket) -> tuple[Address, int] | None:
        return self.to


@dataclass
class Given:
    """What a DNS of ours gave out: names by their addresses. `failing`: it cannot say."""

    names: dict[str, str] = field(default_factory=dict)
    failing: bool = False

    def is_synthetic(self, address: Address) -> bool:
        """The range that is set aside for it."""
        return str(address).startswith("198.18.")

    async def name_of(self, address: Address) -> str | None:
        """The name, if there is one."""
        if self.failing:
            raise OSError("the hub does not answer")
        return self.names.get(str(address))

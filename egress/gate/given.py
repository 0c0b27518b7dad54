"""The names that our own DNS gave addresses out for: what an address stands for where a client asks for it by that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from egress.policy import Address


class GivenNames(Protocol):
    """What the DNS of this proxy knows of its answers."""

    def is_synthetic(self, address: Address) -> bool:
        """Whether the address is one that is only ever given out by us, and leads nowhere by itself."""

    async def name_of(self, address: Address) -> str | None:
        """The one name that a synthetic address stands for; None: none, or none any more. May raise: then refuse."""

"""Where the proxy tells of itself, `admin`: health, readiness and metrics, and which addresses that may be.

1. INVARIANT out-of-the-sandbox's-reach: an address that other machines reach is taken only with `anywhere: true`
2. a name in the Host field of a request is one of `hosts`: a page in a browser must not read this by DNS rebinding
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from egress.config.listening import UnixListener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.config.listening import ListenAddress


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """`hosts`: names by which clients may ask, in lower case, beside addresses and `localhost`."""

    listen: ListenAddress
    anywhere: bool = False
    hosts: frozenset[str] = frozenset()


def admin_problem(admin: AdminConfig, taken: Iterable[ListenAddress]) -> tuple[str, str] | None:
    """What is wrong with the address, and what to write. `taken`: where the proxy listens for clients."""
    listen = admin.listen
    if not isinstance(listen, UnixListener):
        if not admin.anywhere and not ip_address(listen[0]).is_loopback:
            return (
                f"`{listen[0]}` is reached from other machines, and perhaps from sandboxes",
                "write `127.0.0.1:9180` or `unix:/run/egress/admin.sock`, or add `anywhere: true`",
            )
        if not listen[1]:
            return None
    return ("this is where the proxy listens", "name another address") if listen in [*taken] else None

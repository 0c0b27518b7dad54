"""Where the proxy listens: at an address and port of TCP, or on a unix socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.config.sandboxes_model import SandboxDefinition

UNIX_MARK: Final = "unix:"
_OWN_USER: Final = 0o600
_EVERYBODY: Final = 0o666


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A unix stream socket, by its absolute path; two with the same path are the same.

    `mode`: who may connect, as the permissions of the file; None: as `socket_mode` says.
    """

    path: str
    mode: int | None = field(default=None, compare=False)


type ListenAddress = tuple[str, int] | UnixListener


def told_listener(address: ListenAddress) -> str:
    """As people write it: `127.0.0.1:3128`, `[::1]:3128` or `unix:/run/egress/proxy.sock`."""
    if isinstance(address, UnixListener):
        return f"{UNIX_MARK}{address.path}"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def socket_mode(listener: UnixListener, sandboxes: Iterable[SandboxDefinition]) -> int:
    """The permissions of a socket: those that are stated, else 0600, unless users are told apart there.

    Where a configured sandbox is told by its user, all must be able to connect, and whoever is no sandbox is refused.
    Not where a sandbox is told by the socket alone: then everybody would be that one.
    """
    if listener.mode is not None:
        return listener.mode
    here = [own for own in sandboxes if own.listener in {None, listener}]
    by_socket_alone = any(own.listener is not None and not own.uids and own.token is None for own in here)
    return _EVERYBODY if any(own.uids for own in here) and not by_socket_alone else _OWN_USER

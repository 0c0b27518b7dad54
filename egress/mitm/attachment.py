"""Which lane judges this process's flows. None of them: then everything is denied.

The functions that stand in mitmproxy's classes ask here at each step, so that a lane that is taken away halfway judges
nothing any more, and nothing passes unjudged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mitmproxy.connection import Client, Connection, Server
    from mitmproxy.proxy.commands import StartHook
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

    from egress.gate.dial import DialFailure, Dialled


class Lane(Protocol):
    """What mitmproxy's handler and layers ask of a lane; `hook_seconds` is how long a hook may take."""

    hook_seconds: float

    def handler_of(self, client: Client) -> ProxyConnectionHandler | None:
        """What carries a client's connection."""

    async def run(self, handler: ProxyConnectionHandler, hook: StartHook, data: Any) -> None:
        """Run a hook."""

    async def hook_failed(self, handler: ProxyConnectionHandler, name: str, data: Any) -> None:
        """A hook raised or hung."""

    async def dial(self, handler: ProxyConnectionHandler, server: Server) -> Dialled | DialFailure:
        """Open a connection on a grant."""

    def opened(self, handler: ProxyConnectionHandler, server: Server) -> None:
        """An upstream accepted."""

    def received(self, handler: ProxyConnectionHandler, source: Connection, size: int) -> None:
        """Bytes were read."""

    def charged(
        self, handler: ProxyConnectionHandler, source: Connection, size: int
    ) -> Coroutine[Any, Any, int] | None:
        """How many of the bytes that were read may pass; None: as many as came."""

    def overdrawn(self, handler: ProxyConnectionHandler) -> None:
        """Fewer could pass than came."""

    def crashed(self, handler: ProxyConnectionHandler) -> None:
        """A layer raised."""

    def held_too_much(self, handler: ProxyConnectionHandler) -> None:
        """A connection is closed for what it holds."""

    def in_tunnel(self, client: Client) -> bool:
        """Whether an allowed CONNECT came before."""

    def head_incomplete(self, client: Client, *, started: bool) -> None:
        """Part of a head is here."""

    def head_complete(self, client: Client) -> None:
        """A head is here."""


class _Attached:
    lane: Lane | None = None


def attached() -> Lane | None:
    """The lane in charge, or None: then nothing may pass."""
    return _Attached.lane


def attach(lane: Lane) -> None:
    """Put a lane in charge."""
    _Attached.lane = lane


def detach(lane: Lane) -> None:
    """Take a lane out of charge; from here on everything is denied until another is attached."""
    if _Attached.lane is lane:
        _Attached.lane = None

"""Builds the mitm lane on a gate: our CA's leaves towards clients, verified TLS towards upstreams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL

from egress.mitm.contexts import TlsContexts
from egress.mitm.lane import MitmLane
from egress.mitm.tls_connection import LeanConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mitmproxy.proxy.commands import StartHook
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

    from egress.certs import Authority
    from egress.config import ServerConfig
    from egress.gate.gate import Gate


def build_lane(
    config: ServerConfig,
    gate: Gate,
    authority: Authority,
    *,
    roots: Path,
    others: Callable[[ProxyConnectionHandler, StartHook], Awaitable[None]] | None = None,
) -> MitmLane:
    """The lane, with its TLS contexts made. `others` runs mitmproxy's other addons before each of our hooks.

    `roots`: the file of those that upstreams are verified against.
    """
    gate.presentable = authority.permits
    return MitmLane(
        gate,
        TlsContexts(authority, roots, LeanConnection if others is None else SSL.Connection),
        connections_at_most=config.limits.connections,
        head_seconds=config.limits.head_seconds,
        tls_seconds=config.limits.tls_seconds,
        others=others,
    )

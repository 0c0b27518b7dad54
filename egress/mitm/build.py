"""Builds the mitm lane on a gate: our CA's leaves towards clients, verified TLS towards upstreams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL

from egress.certs import BUNDLE_NAME, write_bundle, write_roots
from egress.gate.build import ROOTS
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
    roots: Path | None = None,
    others: Callable[[ProxyConnectionHandler, StartHook], Awaitable[None]] | None = None,
) -> MitmLane:
    """The lane, with its TLS contexts made. `others` runs mitmproxy's other addons before each of our hooks.

    `roots`: the file of those that upstreams are verified against; None: it is written here.
    """
    if roots is None:
        roots = config.state_dir / ROOTS
        write_roots(roots, config.upstream.ca)
    return MitmLane(
        gate,
        TlsContexts(authority, roots, LeanConnection if others is None else SSL.Connection),
        connections_at_most=config.limits.connections,
        head_seconds=config.limits.head_seconds,
        tls_seconds=config.limits.tls_seconds,
        others=others,
    )


def client_bundle(config: ServerConfig, authority: Authority) -> Path:
    """Write the bundle that clients use in place of the system's: its roots and our CA."""
    path = config.state_dir / BUNDLE_NAME
    write_bundle(path, authority.certificate_pem, config.upstream.ca)
    return path

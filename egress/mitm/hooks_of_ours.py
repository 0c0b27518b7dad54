"""Hooks that mitmproxy lacks: a head that was refused, an HTTP/2 connection that broke, an upstream about to be used.

Each carries a value whose first state is refusal, so a hook that raises, hangs or is never run refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mitmproxy.proxy.commands import StartHook

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.connection import Client, Server

    from egress.policy import Reason


@dataclass
class RefusedHead:
    """Bytes of a client that are no request; `answer` is what it is sent before the connection is closed."""

    client: Client
    reason: Reason
    detail: str
    answer: bytes = b""


@dataclass
class EgressHeadRefusedHook(StartHook):
    """A client sent something that could not be read as a request."""

    data: RefusedHead
    blocking = True


@dataclass
class UpstreamUse:
    """A connection that is about to carry a request. Anything but an empty `refusal` stops it."""

    flow: http.HTTPFlow
    server: Server
    refusal: str = field(default="the connection was not judged")


@dataclass
class EgressUpstreamReadyHook(StartHook):
    """An upstream connection is open, its TLS is verified, and the request's head is about to be sent."""

    data: UpstreamUse
    blocking = True

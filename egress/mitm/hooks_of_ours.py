"""Hooks that mitmproxy lacks: refused heads and bodies, broken HTTP/2, an upstream about to be used, limited bodies.

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
class EgressBodyRefusedHook(StartHook):
    """A body that is awaited cannot be held any more: `flow.metadata[BODY_PROBLEM]` says why."""

    flow: http.HTTPFlow
    blocking = True


@dataclass
class UpstreamUse:
    """A connection that is about to carry a request. Anything but an empty `refusal` stops it."""

    flow: http.HTTPFlow
    server: Server
    refusal: str = field(default="the connection was not judged")


@dataclass
class BodyPart:
    """A part of a body that is about to go on; `may_pass` of its bytes go, and no more if fewer.

    `misdirected`: fewer not because of a limit, but of a placeholder among them.
    """

    flow: http.HTTPFlow
    data: bytes
    from_client: bool
    may_pass: int = 0
    misdirected: bool = False

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)


@dataclass
class EgressBodyPartHook(StartHook):
    """A part of a body is here whose exchange is limited, or that is looked at."""

    data: BodyPart
    blocking = True


@dataclass
class EgressUpstreamReadyHook(StartHook):
    """An upstream connection is open, its TLS is verified, and the request's head is about to be sent."""

    data: UpstreamUse
    blocking = True

"""HTTP/2 for mitmproxy's layers: heads read by the same strict parser, broken connections recorded, floods cut off.

A request's pseudo-headers and fields are written as an HTTP/1.1 head and read back by `egress.wire`, so that one
parser decides for both versions, and what HTTP/1.1 could not carry unharmed to an upstream is refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h2.events
from mitmproxy.proxy.layers.http._http2 import Http2Server

from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.mitm.hooks_of_ours import EgressHeadRefusedHook, RefusedHead
from egress.policy import Reason
from egress.wire.head import NeedMore, Reject, RejectKind, RequestHead, parse_request_head

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.proxy.layer import CommandGenerator

_original_protocol_error = Http2Server.protocol_error
_original_handle_event = Http2Server.handle_h2_event

# Tokens of a client's budget for events that bring nothing; a reset costs ten, since it threw a request away.
BUDGET = 2_000
REFILL = 200
_ENHANCE_YOUR_CALM = 11
_MALFORMED = Reject(RejectKind.MALFORMED, "the HTTP/2 request holds what no HTTP request may hold")


def protocol_error(self: Http2Server, message: str, error_code: int = 1) -> CommandGenerator[None]:
    """In place of `Http2Connection.protocol_error` on the client's side: leave a record before closing."""
    yield EgressHeadRefusedHook(
        RefusedHead(self.context.client, Reason.REQUEST_MALFORMED, "the HTTP/2 connection breaks the protocol")
    )
    yield from _original_protocol_error(self, message, error_code)


def handle_event(self: Http2Server, event: h2.events.Event) -> CommandGenerator[bool]:
    """In place of `Http2Server.handle_h2_event`: events that cost us work and bring nothing have a budget.

    A client that opens and resets streams, or floods with settings, pings or empty data, is cut off (CVE-2023-44487,
    CVE-2019-9511 and its kin).
    """
    cost = _cost(event)
    if cost:
        budget = self.__dict__.setdefault("_egress_budget", Budget())
        if not budget.spend(cost, time.monotonic()):
            yield from self.protocol_error("too much that brings nothing", _ENHANCE_YOUR_CALM)
            return True
    return (yield from _original_handle_event(self, event))


@dataclass(slots=True)
class Budget:
    """A bucket of tokens: `BUDGET` at first, and `REFILL` more each second up to that."""

    tokens: float = float(BUDGET)
    filled: float = 0.0

    def spend(self, cost: int, now: float) -> bool:
        """Take `cost` tokens; False if they are not there."""
        if self.filled:
            self.tokens = min(float(BUDGET), self.tokens + (now - self.filled) * REFILL)
        self.filled = now
        self.tokens -= cost
        return self.tokens >= 0


def _cost(event: h2.events.Event) -> int:
    match event:
        case h2.events.StreamReset():
            return 10
        case h2.events.DataReceived(data=b"", stream_ended=None):
            return 1
        case (
            h2.events.PingReceived()
            | h2.events.RemoteSettingsChanged()
            | h2.events.PriorityUpdated()
            | h2.events.UnknownFrameReceived()
        ):
            return 1
        case _:
            return 0


def error_body(status_code: int, message: str) -> bytes:
    """In place of mitmproxy's HTML page, which repeats bytes of the wire."""
    del status_code, message
    return Denial(new_decision_id(), Reason.INTERNAL_ERROR).body()


def head_of(request: http.Request) -> RequestHead | Reject:
    """The head of an HTTP/2 request, as our own parser reads it."""
    fields = list(request.headers.fields)
    authority = request.data.authority
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if not authority:
        if len(hosts) != 1:
            return _MALFORMED
        authority = hosts[0]
    elif any(host != authority for host in hosts):  # INVARIANT one-name
        return Reject(RejectKind.MALFORMED, "Host and :authority differ")
    lines = [request.data.method + b" " + request.data.path + b" HTTP/1.1", b"host: " + authority]
    lines += [name + b": " + value for name, value in fields if name.lower() != b"host"]
    if any(byte in line for line in lines for byte in (b"\r", b"\n", b"\0")):
        return _MALFORMED
    head = parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n")
    # A name with a colon in it would be read as another name, and so would escape what a rule removes or replaces.
    names = [b"host", *(name for name, _ in fields if name.lower() != b"host")]
    if isinstance(head, NeedMore) or (isinstance(head, RequestHead) and [name for name, _ in head.fields] != names):
        return _MALFORMED
    return head

"""CONNECT as a client of an HTTP proxy says it (RFC 9110 section 9.3.6), and what the proxy answers.

1. What is asked for is a canonical name or an address, and a port: anything else raises, so that no destination can
   bring a line, a field or a second request of its own.
2. The answer is one head, strictly read and small. A 2xx opens the tunnel where that head ends; a length that it
   declares counts for nothing there. An interim answer is none.
3. No text of the proxy's goes on, only its status.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from egress.wire.fields import HeadLimits
from egress.wire.outcome import NeedMore, Reject
from egress.wire.response import parse_response_head

REPLY_LIMITS: Final = HeadLimits(bytes=8_192, fields=50, line=1_024)
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
# A name whose last label is a number is an address to some readers: `0x7f000001`.
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LARGEST_PORT: Final = 65_535
_AUTHENTICATE: Final = 407
_OK: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The proxy goes along; its answer was `length` bytes. `choice`: the method that a SOCKS proxy picked."""

    length: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Declined:
    """The proxy does not; `detail` is a sentence of ours. `final`: another destination would fare no better."""

    detail: str
    final: bool = False


type Answer = Accepted | Declined | NeedMore | Reject


def connect_head(host: str, port: int, user: str | None = None, password: str | None = None) -> bytes:
    """The request for a tunnel to `host`, a canonical name or an address without brackets.

    `user`: sign in by the scheme Basic (RFC 7617), in UTF-8. Raises ValueError for what is no host, port or user.
    """
    plain = destination(host)
    authority = f"{f'[{plain}]' if ':' in plain else plain}:{checked_port(port)}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if user is not None:
        if ":" in user:
            raise ValueError("a user of the scheme Basic has no colon")
        pair = f"{user}:{password or ''}".encode()
        lines.append(f"Proxy-Authorization: Basic {b64encode(pair).decode()}")
    return "\r\n".join((*lines, "", "")).encode()


def parse_connect_reply(data: bytes) -> Answer:
    """What the answer that `data` begins with says. What follows its head is not looked at."""
    head = parse_response_head(data, REPLY_LIMITS)
    if isinstance(head, NeedMore | Reject):
        return head
    if head.status in _OK:
        return Accepted(head.length)
    if head.status == _AUTHENTICATE:
        return Declined("the upstream proxy did not accept who we are (status 407)", final=True)
    return Declined(f"the upstream proxy refused the connection (status {head.status})")


def destination(host: str) -> str:
    """`host` as it is sent: a canonical name, or an address in its one spelling. Raises ValueError."""
    if _NAME.fullmatch(host) and not _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return host
    address = ip_address(host)
    if "%" in host:
        # A zone is one of this machine's interfaces; to the proxy it is text of the client's.
        raise ValueError("an address with a zone is none to another machine")
    return str(address)


def checked_port(port: int) -> int:
    """`port` if it is one. Raises ValueError."""
    if not 0 < port <= _LARGEST_PORT:
        raise ValueError("this is no port")
    return port

"""Which lane carries what. Asked once a connection, before its TLS is opened; the answer does not change afterwards.

1. what is not opened        `tunnel`: raw TCP, and TLS that the name step leaves closed
2. plain HTTP                `http`
3. TLS to be opened          a  a client that cannot speak HTTP/1.1                        `mitm`
                             b  a client that offers HTTP/2, where a rule asks for it      `mitm`
                             c  every other                                                `http`

A lane may be forced, for tests, and then carries what it can carry at all; the rest keeps its own.
Nothing that must be looked into ever goes to `tunnel`, forced or not: that lane sees no method, path or Host.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from egress.policy.vocabulary import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

# As ALPN names them (RFC 7301, section 6; RFC 9113, section 3.1).
HTTP_1_1: Final = b"http/1.1"
HTTP_2: Final = b"h2"


class Opened(Enum):
    """What the client begins with."""

    TLS = auto()
    HTTP = auto()
    RAW = auto()


def pick_lane(
    opened: Opened,
    *,
    tunnel: bool = False,
    alpn: Sequence[bytes] = (),
    http2: bool = False,
    forced: Lane | None = None,
) -> Lane:
    """The lane of a connection that the name step lets go on.

    `tunnel`: TLS stays closed. `alpn`: the protocols of the client's hello, none if it names none. `http2`: a rule asks
    for it.
    """
    lane = _least(opened, alpn, tunnel=tunnel, http2=http2)
    if forced is Lane.MITM:
        return forced
    if forced is Lane.HTTP and lane is Lane.MITM and _speaks_http1(alpn):
        return forced
    return lane


def _least(opened: Opened, alpn: Sequence[bytes], *, tunnel: bool, http2: bool) -> Lane:
    if opened is Opened.HTTP:
        return Lane.HTTP
    if opened is Opened.RAW or tunnel:
        return Lane.TUNNEL
    if not _speaks_http1(alpn) or (http2 and HTTP_2 in alpn):
        return Lane.MITM
    return Lane.HTTP


def _speaks_http1(alpn: Sequence[bytes]) -> bool:
    """Whether HTTP/1.1 can be agreed on. HTTP/2 is never assumed: it has to be named (RFC 9113, section 3.2)."""
    return not alpn or HTTP_1_1 in alpn

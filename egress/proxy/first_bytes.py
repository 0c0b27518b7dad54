"""What a client begins with, where it decides who must tell it what: looked at, and left where it is.

Who says nothing is waited for as long as the connection's deadline lets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.proxy.peeking import peek
from egress.wire.client_hello import LARGEST_HELLO, parse_client_hello
from egress.wire.head import NeedMore, parse_request_head

if TYPE_CHECKING:
    from egress.proxy.connection import Connection
    from egress.wire.client_hello import ClientHello
    from egress.wire.head import Reject, RequestHead

HANDSHAKE: Final = 0x16
LARGEST_HEAD: Final = 65_536


def looks_like_http(seen: bytes) -> bool:
    """Whether a first byte can be that of a method, as methods are written."""
    return seen[:1].isalpha() and seen[:1].isupper()


async def peek_hello(connection: Connection) -> ClientHello | Reject | None:
    """The TLS hello that the client begins with; None if it left before its end."""
    seen = b""
    while True:
        seen = await peek(connection, LARGEST_HELLO, len(seen))
        if not seen:
            return None
        parsed = parse_client_hello(seen)
        if not isinstance(parsed, NeedMore):
            return parsed


async def peek_head(connection: Connection) -> RequestHead | Reject | None:
    """The head that the client begins with; None if it left before its end."""
    seen = b""
    resume: NeedMore | None = None
    while True:
        seen = await peek(connection, LARGEST_HEAD, len(seen))
        if not seen:
            return None
        parsed = parse_request_head(seen, resume=resume)
        if not isinstance(parsed, NeedMore):
            return parsed
        resume = parsed

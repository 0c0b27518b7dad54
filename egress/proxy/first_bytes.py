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
# The one protocol of those in wide use that begins as a method could (RFC 4253, section 4.2).
_SSH: Final = b"SSH-"


def looks_like_http(seen: bytes) -> bool:
    """Whether first bytes can be those of a method, as methods are written."""
    return seen[:1].isalpha() and seen[:1].isupper() and not seen.startswith(_SSH)


def tells_protocol(seen: bytes) -> bool:
    """Whether there are bytes enough for `looks_like_http`."""
    return len(seen) >= len(_SSH) or not _SSH.startswith(seen)


async def peek_first(connection: Connection) -> bytes:
    """First bytes, as many as tell protocols apart; empty if the client left."""
    seen = b""
    while not tells_protocol(seen):
        seen = await peek(connection, len(_SSH), len(seen))
        if not seen:
            break
    return seen


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

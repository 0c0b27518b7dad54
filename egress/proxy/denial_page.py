"""A refusal as a page, told to a client that was let go on only for that: nothing is dialled, nothing is read further.

1. plain HTTP  the page
2. TLS         the page, inside a handshake with our leaf for the name that the client asked for; a client that cannot
               speak HTTP/1.1, or asks for a name that our CA may not sign for, gets an alert; one that does not take
               our leaf says so itself
3. else        a reset; also where nothing comes within a moment: a client that waits for its server waits in vain

The refusal has its record already: whatever happens here adds none.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from egress.errors import EgressError
from egress.policy import Refusal, parse_host
from egress.policy.lanes import HTTP_1_1
from egress.proxy.connection import Phase
from egress.proxy.first_bytes import HANDSHAKE, looks_like_http, peek_hello
from egress.proxy.lingering import linger
from egress.proxy.peeking import peek
from egress.wire.client_hello import ClientHello
from egress.wire.head import NeedMore, RequestHead, parse_request_head

if TYPE_CHECKING:
    from egress.gate.denial import Denial
    from egress.proxy.client_tls import ClientTls
    from egress.proxy.connection import Connection
    from egress.proxy.endpoint import Endpoint
    from egress.proxy.turns import Turns

logger = logging.getLogger(__name__)

# A fatal alert, access_denied (RFC 8446 section 6.2): the client's error then says more than "closed".
TLS_ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x31"
# Who speaks first has done so by then, over any network.
_FIRST_SECONDS: Final = 2.0
_METHOD: Final = 5


class DenialPages:
    """Tells refusals inside what clients speak; one a worker."""

    def __init__(self, tls: ClientTls, turns: Turns) -> None:
        self._tls = tls
        self._turns = turns

    async def tell(self, connection: Connection, denial: Denial) -> None:
        """Tell a client that may not go on."""
        # A deadline that passes from here on ends the connection, and is no refusal of its own.
        connection.expect(Phase.IDLE, connection.limits.head_seconds)
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                seen = await peek(connection, _METHOD)
        except TimeoutError:
            seen = b""
        if seen[:1] == bytes([HANDSHAKE]):
            await self._inside(connection, denial)
        elif looks_like_http(seen):
            await connection.endpoint.send(denial.http1(head_only=seen == b"HEAD "))
            await linger(connection.endpoint)
        else:
            connection.endpoint.abort()

    async def _inside(self, connection: Connection, denial: Denial) -> None:
        hello = await peek_hello(connection)
        if hello is None:
            return
        name = _name_of(hello, denial)
        presentable = connection.gate.presentable
        if name is None or not (presentable is None or presentable(name)):
            await connection.endpoint.send(TLS_ALERT)
            await linger(connection.endpoint)
            return
        try:
            leaf = self._tls.known(name) or await self._tls.prepare(name)
        except (EgressError, ValueError):
            logger.exception("no certificate could be made for a page")
            return
        endpoint = connection.endpoint
        endpoint.secure(lambda sock: self._tls.wrap(sock, leaf))
        await self._turns.turn(connection.address)
        # An OSError: the client does not take our leaf, and is told nothing more.
        await endpoint.handshake()
        method = await _method(endpoint)
        if method is not None:
            await endpoint.send(denial.http1(head_only=method == "HEAD"))
            await linger(endpoint)


def _name_of(hello: object, denial: Denial) -> str | None:
    """The name to be for a client; None where it takes no page, or cannot be read."""
    if not isinstance(hello, ClientHello) or (hello.alpn and HTTP_1_1 not in hello.alpn):
        return None
    host = parse_host(hello.sni or denial.host)
    return None if isinstance(host, Refusal) else host.text


async def _method(endpoint: Endpoint) -> str | None:
    """The method of the one head that is read, empty if it is none; None if the client left."""
    got = bytearray()
    resume: NeedMore | None = None
    while True:
        data = await endpoint.receive()
        if not data:
            return None
        got += data
        head = parse_request_head(got, resume=resume)
        if not isinstance(head, NeedMore):
            return head.method if isinstance(head, RequestHead) else ""
        resume = head

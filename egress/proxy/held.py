"""A request's body that is held until it was judged: read whole from the client, then sent up as it was read.

1. a client that waits to be told to go on is told so by us: the upstream hears of the request only once it is allowed
2. what breaks its framing, has fields after it, is too large or ends early is refused, and nothing of it has left
3. it must be whole in time, however its bytes come
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from egress.policy import Reason, Refusal
from egress.proxy.bodies import BodyError, IncomingBody
from egress.proxy.connection import Phase
from egress.wire.head import ContentLength

if TYPE_CHECKING:
    from egress.gate.body import Buffer
    from egress.gate.judged_body import HeldBody
    from egress.proxy.connection import Connection
    from egress.wire.fields import Fields
    from egress.wire.head import RequestHead

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIECE = 1 << 16
_EARLY = Refusal(Reason.REQUEST_MALFORMED, "the client left before the body was whole")
_BROKEN = Refusal(Reason.REQUEST_MALFORMED, "the body breaks the rules of HTTP, or fields follow it")


async def hold(
    connection: Connection, head: RequestHead, rest: bytes, buffer: memoryview, held: HeldBody
) -> bytes | Refusal:
    """Read the whole body into `held`. What was read behind its end, or why it is refused."""
    connection.expect(Phase.CARRYING, connection.gate.limits.body_seconds)
    body = IncomingBody(connection.endpoint, head.framing, rest, buffer)
    try:
        problem = held.add(body.here())
        if problem is None and head.expects_continue and not body.done:
            await connection.endpoint.send(_CONTINUE)
        while problem is None and not body.done:
            problem = held.add(await body.next())
    except BodyError as error:
        return _EARLY if error.early else _BROKEN
    except OSError:
        return _EARLY
    if problem is None and body.trailers:
        problem = _BROKEN
    connection.expect(Phase.CARRYING, connection.limits.idle_seconds)
    return body.rest if problem is None else problem


def held_head(head: RequestHead, held: HeldBody) -> RequestHead:
    """The head as it goes up with the held body: its length is known, and nobody waits to be told to go on."""
    fields = tuple([field for field in head.fields if field[0].lower() != b"expect"])
    return replace(head, fields=fields, framing=ContentLength(len(held.data)))


class HeldUpload:
    """A held body as `Upload` asks for one, piece by piece."""

    __slots__ = ("_data", "_position", "rest", "trailers")

    def __init__(self, held: HeldBody) -> None:
        self._data = bytes(held.data)
        self._position = 0
        self.rest = b""
        self.trailers: Fields = ()

    @property
    def done(self) -> bool:
        """Whether all of it was taken."""
        return self._position >= len(self._data)

    def here(self) -> Buffer:
        """The next piece."""
        piece = self._data[self._position : self._position + _PIECE]
        self._position += len(piece)
        return piece

    async def next(self) -> Buffer:
        """The next piece."""
        return self.here()

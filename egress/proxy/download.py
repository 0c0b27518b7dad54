"""An answer's body on its way down to the client.

1. what is pending, the answer's head, leaves with the first of the body
2. a client that cannot be written to is told from an upstream that breaks: `ClientGoneError`
3. of a body over its limit goes what may; then it ends with an error, since no half answer may look whole
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress.gate.body import count_down, limited_down
from egress.gate.inflate import UnreadableError
from egress.gate.shares import ByteLimitError
from egress.policy import Reason, Refusal
from egress.proxy import heads
from egress.proxy.bodies import BodyError, chunk, last_chunk
from egress.proxy.upload import OVER, TURN

if TYPE_CHECKING:
    from egress.gate.body import Buffer
    from egress.gate.exchange import Exchange
    from egress.gate.reflection import Answer
    from egress.proxy.bodies import IncomingBody
    from egress.proxy.connection import Connection

SERVER_CLOSED = Refusal(Reason.UPSTREAM_UNREACHABLE, "the server closed the connection")
SERVER_MALFORMED = Refusal(Reason.UPSTREAM_MALFORMED, "")


class ClientGoneError(ConnectionError):
    """The client cannot be written to any more."""


async def send_answer(
    connection: Connection,
    exchange: Exchange,
    body: IncomingBody,
    pending: bytes,
    answer: Answer | None,
    *,
    chunked: bool,
) -> None:
    """Send what is pending, then the body to its end. Raises what `broken` tells of, or `ClientGoneError`."""
    data = body.here()
    if exchange.quota is not None:
        data = await _limited(connection, exchange, data, pending, chunked=chunked)
    data = count_down(exchange, data)
    turn = 0
    while not body.done:
        if pending or len(data):
            part = chunk(data) if chunked else data
            await to_client(connection, b"".join((pending, part)) if pending else part)
            pending = b""
        data = await body.next()
        if exchange.quota is not None:
            data = await _limited(connection, exchange, data, pending, chunked=chunked)
        data = count_down(exchange, data)
        connection.moved()
        turn += 1
        if turn % TURN == 0:
            data = bytes(data)
            await asyncio.sleep(0)
    rest = exchange.downward.end() if exchange.downward.steps else b""
    if len(rest):
        data = bytes(data) + bytes(rest)
    if chunked:
        trailers = heads.trailer_lines(body.trailers if answer is None else answer.fields(body.trailers))
        await to_client(connection, b"".join((pending, chunk(data), last_chunk(trailers))))
    elif pending or len(data):
        await to_client(connection, b"".join((pending, data)) if pending else data)


async def _limited(
    connection: Connection, exchange: Exchange, data: Buffer, pending: bytes, *, chunked: bool
) -> Buffer:
    """What may go on; where that is less than came, it goes, behind what is pending. Then raises ByteLimitError."""
    came = len(data)
    data = await limited_down(exchange, data)
    if len(data) < came:
        last = count_down(exchange, data)
        await to_client(connection, b"".join((pending, chunk(last) if chunked else last)))
        raise ByteLimitError
    return data


async def to_client(connection: Connection, data: bytes | bytearray | memoryview) -> None:
    """Send to the client. Raises ClientGoneError."""
    endpoint = connection.endpoint
    try:
        sent = endpoint.send_now(data)
        if sent != len(data):
            await endpoint.send_rest(data, sent)
    except OSError as error:
        raise ClientGoneError from error


def broken(error: BodyError | ByteLimitError | UnreadableError | OSError) -> Refusal:
    """Why an answer ended before its end."""
    if isinstance(error, UnreadableError):
        return unreadable(error)
    if isinstance(error, ByteLimitError):
        return OVER
    early = not isinstance(error, BodyError) or error.early
    return SERVER_CLOSED if early else SERVER_MALFORMED


def unreadable(error: UnreadableError) -> Refusal:
    """A body that no secret can be looked for in."""
    return Refusal(Reason.RESPONSE_UNREADABLE, f"the server sent a body that cannot be read: {error}")

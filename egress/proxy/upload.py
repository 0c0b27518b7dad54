"""A request's body on its way up, while its answer may already come down.

1. what came with the head leaves with it; the rest is carried by a task of its own
2. fields after the body are refused: no rule has seen them
3. a body that breaks its framing, or whose client leaves, breaks the upstream's connection off: the upstream must not
   take what it has for whole
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from egress.gate.body import MisdirectedError, count_up, is_misdirected, limited_up, misdirection
from egress.gate.shares import ByteLimitError
from egress.policy import Reason, Refusal
from egress.proxy.bodies import BodyError, chunk, last_chunk
from egress.proxy.connection import CLIENT_CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.body import Buffer
    from egress.gate.exchange import Exchange
    from egress.proxy.bodies import IncomingBody
    from egress.proxy.connection import Connection
    from egress.proxy.held import HeldUpload
    from egress.proxy.upstreams import Upstream

    type Body = IncomingBody | HeldUpload

logger = logging.getLogger(__name__)

# After so many buffers in a row without a wait, others get their turn.
TURN = 8

_BAD_BODY = Refusal(Reason.REQUEST_MALFORMED, "the body breaks the rules of HTTP, or fields follow it")
OVER = Refusal(Reason.LIMIT_BYTES, "")
_FAULT = Refusal(Reason.INTERNAL_ERROR, "")


class Upload:
    """One body. `whole`: all of it is on its way. `problem`: why it never will be. `rest`: what was read behind it."""

    __slots__ = ("_body", "_chunked", "_connection", "_exchange", "_task", "_then", "_upstream", "problem", "whole")

    def __init__(
        self, connection: Connection, upstream: Upstream, exchange: Exchange, body: Body, *, chunked: bool
    ) -> None:
        self._connection = connection
        self._upstream = upstream
        self._exchange = exchange
        self._body = body
        self._chunked = chunked
        self._task: asyncio.Task[None] | None = None
        self._then: Callable[[bytes], None] | None = None
        self.problem: Refusal | None = None
        self.whole = False

    async def start(self, head: bytes, then: Callable[[bytes], None]) -> None:
        """Send `head` with what is here of the body; `then` gets what was read behind its end. Raises OSError."""
        self._then = then
        try:
            first = self._body.here()
            if self._exchange.quota is not None:
                first = await self._whole_first(first)
            self._look(first)
            first = count_up(self._exchange, first)
            part = self._last(first) if self._body.done else chunk(first) if self._chunked else first
        except (BodyError, ByteLimitError, MisdirectedError) as error:
            self.problem = self._told(error)
            raise OSError from None
        await self._upstream.endpoint.send(b"".join((head, part)))
        if self._body.done:
            self._finished()
        else:
            self._task = asyncio.ensure_future(self._carry())

    async def stop(self) -> None:
        """Carry no more of it."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _carry(self) -> None:
        try:
            await self._carry_rest()
        except _ClientGoneError:
            self._connection.interrupt(CLIENT_CLOSED)
        except (BodyError, ByteLimitError, MisdirectedError) as error:
            if isinstance(error, BodyError) and error.early:
                self._connection.interrupt(CLIENT_CLOSED)
            else:
                self.problem = self._told(error)
        except OSError:
            # An upstream may answer and close before it has read everything: the reader of the answer finds out.
            return
        except Exception:  # INVARIANT fail-closed: nobody else would ever hear of it
            logger.exception("a request's body could not be carried")
            self.problem = _FAULT
        else:
            self._finished()
            return
        self._upstream.endpoint.abort()

    async def _carry_rest(self) -> None:
        endpoint, body = self._upstream.endpoint, self._body
        turn = 0
        while not body.done:
            data = await self._from_client()
            if self._exchange.quota is not None:
                came = len(data)
                data = await limited_up(self._exchange, data)
                if len(data) < came:
                    self._look(data)
                    last = count_up(self._exchange, data)
                    await endpoint.send(chunk(last) if self._chunked else last)
                    raise ByteLimitError
            self._look(data)
            data = count_up(self._exchange, data)
            self._connection.moved()
            if body.done:
                await endpoint.send(self._last(data))
            elif len(data):
                await endpoint.send(chunk(data) if self._chunked else data)
            turn += 1
            if turn % TURN == 0:
                await asyncio.sleep(0)

    def _look(self, data: Buffer) -> None:
        """Raises MisdirectedError for what must not go on."""
        if self._exchange.look is not None and is_misdirected(self._exchange, data):
            raise MisdirectedError

    def _told(self, error: BodyError | ByteLimitError | MisdirectedError) -> Refusal:
        match error:
            case BodyError():
                return _BAD_BODY
            case ByteLimitError():
                return OVER
            case MisdirectedError():
                return misdirection(self._exchange)

    async def _whole_first(self, first: Buffer) -> Buffer:
        """A request that cannot even begin is told so, and nothing of it goes."""
        part = await limited_up(self._exchange, first)
        if len(part) < len(first):
            raise ByteLimitError
        return part

    async def _from_client(self) -> Buffer:
        try:
            return await self._body.next()
        except OSError as error:
            raise _ClientGoneError from error

    def _last(self, data: Buffer) -> bytes:
        """The end of the body, as it goes up."""
        if self._body.trailers:
            raise BodyError(early=False)
        rest = self._exchange.upward.end() if self._exchange.upward.steps else b""
        whole = b"".join((data, rest))
        return chunk(whole) + last_chunk() if self._chunked else whole

    def _finished(self) -> None:
        self.whole = True
        if self._then is not None:
            self._then(self._body.rest)


class _ClientGoneError(Exception):
    """The client cannot be read from any more."""

"""One admitted HTTP exchange: a connection to carry it, the head written anew, bodies both ways, one outcome.

1. a kept connection is judged again before each use; one that turns out stale is replaced once, if no byte of an answer
   came and the request may be repeated (RFC 9110 section 9.2.2)
2. a request's body goes up while the answer comes down, so that an early answer is seen; fields after it are refused
3. a body that a rule asks for is held until it was judged, and what was judged is what goes up
4. an answer to a request that carried secrets is cleaned of them (`reflection`), or refused if that cannot be done
5. an upstream that fails before its head becomes a page of ours; after it, the client's connection breaks, and no
   half answer looks whole
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from egress.gate.body import STRAIGHT, BodyPath, whole_body
from egress.gate.denial import Denial, failure
from egress.gate.exchange import Exchange
from egress.gate.frames import CoveredFrames
from egress.gate.inflate import UnreadableError
from egress.gate.judged_body import BodyWanted, HeldBody, judged_unread, judged_whole, unread_bytes
from egress.gate.outbound import WEBSOCKET
from egress.gate.reflection import answer_of, cleaned
from egress.gate.shares import ByteLimitError
from egress.policy import Reason, Refusal
from egress.proxy import heads
from egress.proxy.bodies import BodyError, IncomingBody
from egress.proxy.connection import CLIENT_CLOSED
from egress.proxy.download import (
    SERVER_CLOSED,
    SERVER_MALFORMED,
    ClientGoneError,
    broken,
    send_answer,
    to_client,
    unreadable,
)
from egress.proxy.held import HeldUpload, held_head, hold
from egress.proxy.relay import relay
from egress.proxy.upload import Upload
from egress.proxy.upstreams import key_of
from egress.wire.head import (
    ContentLength,
    NeedMore,
    NoBody,
    Reject,
    RequestHead,
    ResponseHead,
    UntilClose,
    Version,
    parse_response_head,
    response_framing,
)

if TYPE_CHECKING:
    from egress.gate.reflection import Answer
    from egress.policy import Request
    from egress.proxy.connection import Connection
    from egress.proxy.http_lane import HttpLane, HttpParts
    from egress.proxy.upstreams import Upstream
    from egress.wire.head import Framing

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_INTERIMS_AT_MOST = 16

# What is decoded may be a hundred times as long, and is held until the client has taken it.
_CODED_AT_ONCE = 16_384


class HttpExchange:
    """One request and its answer, on the connection of `lane`."""

    __slots__ = ("_began", "_connection", "_head", "_held", "_kept", "_lane", "_parts", "_upload", "_upstream")

    def __init__(self, connection: Connection, parts: HttpParts, head: RequestHead, lane: HttpLane) -> None:
        self._connection = connection
        self._parts = parts
        self._head = head
        self._lane = lane
        self._kept: Upstream | None = None
        self._upstream: Upstream | None = None
        self._upload: Upload | None = None
        # The whole body, where it was judged.
        self._held: HeldBody | None = None
        # Whether a byte of an answer came.
        self._began = False

    async def admit(self, request: Request) -> Exchange | Denial:
        """Ask the gate, with the address of a kept connection if one would carry the request."""
        self._kept = self._parts.pool.peek(key_of(request))
        peer = None if self._kept is None else self._kept.address
        outcome = await self._connection.admit_head(request, peer)
        if isinstance(outcome, BodyWanted):
            outcome = await self._admit_body(request)
        if isinstance(outcome, Exchange) and outcome.asked is not None:
            # A rule rewrote it: what carries it leads elsewhere, and is judged before it does.
            self._kept = self._parts.pool.peek(key_of(outcome.request))
        return outcome

    async def _admit_body(self, request: Request) -> Exchange | Denial:
        """Ask again, with what the body asks for. INVARIANT fail-closed: a body that is not whole is refused."""
        connection = self._connection
        held = HeldBody(connection.gate.bodies)
        admitted = False
        try:
            judged = judged_unread(request, self._head.framing, held.room.most) or await self._hold(request, held)
            if isinstance(judged, Refusal):
                return await connection.refuse(request, judged)
            self._kept = self._parts.pool.peek(key_of(request))
            body = unread_bytes(self._head.framing) if self._held is None else bytes(self._held.data)
            outcome = await connection.admit(judged, None if self._kept is None else self._kept.address, body)
            admitted = not isinstance(outcome, Denial)
            if isinstance(outcome, Exchange) and body:
                held.become(whole_body(outcome, body))
            return outcome
        finally:
            if not admitted:
                held.give_back()

    async def _hold(self, request: Request, held: HeldBody) -> Request | Refusal:
        """Read the whole body; the request with what it asks for."""
        lane = self._lane
        rest = await hold(self._connection, self._head, lane.rest, self._parts.buffer, held)
        lane.rest = b""
        if isinstance(rest, Refusal):
            return rest
        lane.rest = rest
        self._held = held
        return judged_whole(request, bytes(held.data))

    @property
    def consumed(self) -> bool:
        """Whether all of the request was read from the client."""
        return self._held is not None or isinstance(self._head.framing, NoBody)

    async def carry(self, exchange: Exchange) -> bool:
        """Carry it to its end; whether another request may follow on the client's connection."""
        client = self._connection.endpoint
        client.unasked = self._client_spoke
        client.watch()
        try:
            answer = await self._ask(exchange)
            if isinstance(answer, Refusal):
                return await self._fail(exchange, answer)
            head, rest = answer
            exchange.response_started(head.status)
            if head.status == heads.SWITCHING_PROTOCOLS:
                return await self._switch(exchange, head, rest)
            framing = response_framing(head, self._head.method)
            if isinstance(framing, Reject):
                return await self._fail(exchange, SERVER_MALFORMED)
            if exchange.rendered.scrubbed:
                return await self._answer_cleaned(exchange, head, framing, rest)
            return await self._answer(exchange, head, framing, rest)
        finally:
            client.unasked = None
            if self._upload is not None:
                await self._upload.stop()
            if self._upstream is not None:
                self._upstream.endpoint.close()
            if self._held is not None:
                self._held.give_back()

    # the request

    async def _ask(self, exchange: Exchange) -> tuple[ResponseHead, bytes] | Refusal:
        """Send the request, read the answer's head. A stale kept connection is replaced once."""
        kept = self._kept
        if kept is not None and self._parts.pool.take(kept):
            answer = await self._ask_on(kept, exchange)
            stale = answer is SERVER_CLOSED and not self._began
            if not (stale and self._repeatable()):
                return answer
            kept.endpoint.close()
        opened = await self._parts.pool.open(exchange, self._connection.book)
        if isinstance(opened, Refusal):
            return opened
        return await self._ask_on(opened, exchange)

    def _repeatable(self) -> bool:
        return self._head.method in _REPEATABLE and isinstance(self._head.framing, NoBody)

    async def _ask_on(self, upstream: Upstream, exchange: Exchange) -> tuple[ResponseHead, bytes] | Refusal:
        self._upstream = upstream
        connection = self._connection
        problem = connection.gate.ready(exchange, upstream.address, verified_tls=upstream.verified)
        if problem:
            return Refusal(Reason.UPSTREAM_UNREACHABLE, problem)
        upstream.uses += 1
        try:
            if isinstance(self._head.framing, NoBody):
                head = heads.bodiless_head(self._head, exchange, self._lane.repeats, via=connection.gate.via)
                sent = upstream.endpoint.send_now(head)
                if sent != len(head):
                    await upstream.endpoint.send_rest(head, sent)
            else:
                await self._send_with_body(upstream, exchange)
            return await self._read_answer(upstream, exchange)
        except ClientGoneError:
            raise
        except OSError:
            return self._problem or SERVER_CLOSED

    async def _send_with_body(self, upstream: Upstream, exchange: Exchange) -> None:
        if self._held is not None:
            await self._send_held(upstream, exchange, self._held)
            return
        head, chunked = heads.request_head(self._head, exchange, via=self._connection.gate.via)
        client = self._connection.endpoint
        body = IncomingBody(client, self._head.framing, self._lane.rest, self._parts.buffer)
        self._lane.rest = b""
        # The client's end is watched by whoever reads its body.
        client.unasked = None
        self._upload = Upload(self._connection, upstream, exchange, body, chunked=chunked)
        await self._upload.start(head, self._uploaded)

    async def _send_held(self, upstream: Upstream, exchange: Exchange, held: HeldBody) -> None:
        head, chunked = heads.request_head(held_head(self._head, held), exchange, via=self._connection.gate.via)
        self._upload = Upload(self._connection, upstream, exchange, HeldUpload(held), chunked=chunked)
        await self._upload.start(head, lambda _: None)

    def _uploaded(self, rest: bytes) -> None:
        """All of the request is on its way: what comes from the client now is its next, or its end."""
        self._lane.rest = rest
        self._connection.endpoint.unasked = self._client_spoke
        self._connection.endpoint.watch()

    @property
    def _whole(self) -> bool:
        """Whether all of the request is on its way."""
        return self._upload is None or self._upload.whole

    @property
    def _problem(self) -> Refusal | None:
        """Why the request cannot be completed."""
        return None if self._upload is None else self._upload.problem

    def _client_spoke(self) -> None:
        """The client sent something while it waits for its answer: the next request, or its end."""
        endpoint = self._connection.endpoint
        try:
            data = endpoint.receive_now()
        except OSError:
            data = b""
        if data is None:
            endpoint.watch()
        elif data:
            # Kept for later, and nothing more is read until then.
            self._lane.rest += data
        else:
            self._connection.interrupt(CLIENT_CLOSED)

    # the answer

    async def _read_answer(self, upstream: Upstream, exchange: Exchange) -> tuple[ResponseHead, bytes] | Refusal:
        """The final answer's head, and what came behind it; interim ones go to the client on the way."""
        buffer: bytes | bytearray = b""
        resume: NeedMore | None = None
        interims = 0
        while True:
            if buffer:
                head = parse_response_head(buffer, resume=resume)
                if isinstance(head, Reject):
                    return SERVER_MALFORMED
                if isinstance(head, ResponseHead):
                    rest = bytes(buffer[head.length :])
                    if not head.interim:
                        return head, rest
                    interims += 1
                    if interims > _INTERIMS_AT_MOST:
                        return SERVER_MALFORMED
                    await self._pass_interim(head, exchange)
                    buffer, resume = rest, None
                    continue
                resume = head
            data = await upstream.endpoint.receive()
            self._connection.moved()
            if not data:
                return SERVER_MALFORMED if buffer else self._problem or SERVER_CLOSED
            self._began = True
            buffer = data if not buffer else bytearray(buffer) + data

    async def _pass_interim(self, head: ResponseHead, exchange: Exchange) -> None:
        if self._head.version is not Version.HTTP_11:
            return
        if exchange.rendered.scrubbed:
            head = heads.cleaned_head(head, answer_of(exchange))
        await to_client(self._connection, heads.interim_head(head))

    async def _answer_cleaned(
        self, exchange: Exchange, head: ResponseHead, framing: Framing | UntilClose, rest: bytes
    ) -> bool:
        """As `_answer`, without the secrets that the request carried."""
        answer = cleaned(exchange, head.status, head.fields, bodiless=isinstance(framing, NoBody))
        if isinstance(answer, Refusal):
            return await self._fail(exchange, answer)
        if isinstance(framing, ContentLength) and framing.length == len(rest) and exchange.quota is None:
            # All of it is here, so its length can still be told.
            exchange.bytes_down += len(rest)
            try:
                rest = bytes(exchange.downward.pass_on(rest)) + bytes(exchange.downward.end())
            except UnreadableError as error:
                return await self._fail(exchange, unreadable(error))
            exchange.bytes_down -= len(rest)
            exchange.downward = STRAIGHT
            framing = ContentLength(len(rest))
        return await self._answer(exchange, heads.cleaned_head(head, answer), framing, rest, answer)

    async def _answer(
        self,
        exchange: Exchange,
        head: ResponseHead,
        framing: Framing | UntilClose,
        rest: bytes,
        answer: Answer | None = None,
    ) -> bool:
        """Carry the answer down; whether the client's connection may go on."""
        upstream = self._upstream
        if upstream is None:
            raise LookupError("an answer without an upstream")
        keep = self._head.keep_alive and self._whole
        written, chunked, until_close = heads.response_head(
            head,
            exchange,
            framing,
            self._head.version,
            keep=keep,
            via=self._connection.gate.via,
            recoded=answer is not None and answer.decoded,
        )
        here = 0 if isinstance(framing, NoBody) else framing.length if isinstance(framing, ContentLength) else -1
        if here == len(rest) and not exchange.downward.steps and exchange.quota is None:
            # All of the answer came with its head, as most small ones do.
            exchange.bytes_down += here
            await to_client(self._connection, written + rest if here else written)
            if self._whole and head.keep_alive:
                self._upstream = None
                self._parts.pool.give(upstream)
            return await self._answered(keep=keep)
        coded = answer is not None and answer.decoded
        buffer = self._parts.buffer[:_CODED_AT_ONCE] if coded else self._parts.buffer
        body = IncomingBody(upstream.endpoint, framing, rest, buffer)
        try:
            await send_answer(self._connection, exchange, body, written, answer, chunked=chunked)
        except (BodyError, ByteLimitError, UnreadableError, OSError) as error:
            if isinstance(error, ClientGoneError):
                raise
            told = self._problem or broken(error)
            self._connection.finish(f"{told.reason.value}: {told.detail}" if told.detail else told.reason.value)
            self._connection.endpoint.abort()
            return False
        if self._whole and head.keep_alive and not body.rest and not isinstance(framing, UntilClose):
            self._upstream = None
            self._parts.pool.give(upstream)
        return await self._answered(keep=keep and not until_close)

    async def _answered(self, *, keep: bool) -> bool:
        """The answer is out. What of the request is not, never goes: the client's connection ends with it."""
        self._connection.finish()
        if self._upload is not None and not self._upload.whole:
            await self._upload.stop()
            await self._lane.linger()
        return keep

    async def _fail(self, exchange: Exchange, refusal: Refusal) -> bool:
        """Tell the client, in a page of ours, that its request was admitted and failed."""
        reason, detail = refusal.reason, refusal.detail
        denial = failure(exchange, reason, detail)
        exchange.response_started(denial.status)
        self._connection.finish(f"{reason.value}: {detail}" if detail else reason.value)
        with contextlib.suppress(OSError):
            await self._connection.endpoint.send(denial.http1(head_only=self._head.method == "HEAD"))
        if not isinstance(self._head.framing, NoBody):
            await self._lane.linger()
        return False

    async def _switch(self, exchange: Exchange, head: ResponseHead, rest: bytes) -> bool:
        """Open a WebSocket: from here on bytes go both ways, uncut."""
        upstream = self._upstream
        asked = exchange.request.protocol in WEBSOCKET
        if upstream is None or not asked or not heads.opens_websocket(head):
            return await self._fail(exchange, SERVER_MALFORMED)
        client = self._connection.endpoint
        client.unasked = None
        if exchange.rendered.scrubbed:
            answer = answer_of(exchange)
            head = heads.cleaned_head(head, answer)
            exchange.downward = BodyPath((CoveredFrames(answer.scrubber), *exchange.downward.steps))
        await to_client(self._connection, heads.switching_head(head))
        first = (self._lane.rest, rest)
        self._lane.rest = b""
        try:
            await relay(self._connection, upstream.endpoint, exchange, first, self._parts.buffer)
        except ByteLimitError:
            self._connection.finish(Reason.LIMIT_BYTES.value)
        except UnreadableError:
            self._connection.finish(Reason.RESPONSE_UNREADABLE.value)
        self._connection.finish()
        return False

"""The hooks of a request whose body is awaited: gathered by mitmproxy, judged once it is whole, then sent as judged.

1. begin         the refusal that stands in the flow stays there, so that whatever goes wrong refuses
2. request       the body is whole: ask the gate again, and put our own framing on what goes up
3. body_refused  the body grew beyond what may be held
4. never_whole   the body broke off
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress.gate.body import count_up, limited_up, whole_body
from egress.gate.denial import Denial
from egress.gate.judged_body import HeldBody, judged_unread, judged_whole
from egress.mitm.awaited import AWAITED, Awaited, awaited_of
from egress.mitm.http1 import HEAD
from egress.mitm.http2 import head_of
from egress.mitm.stream import BODY_PROBLEM
from egress.policy import Reason, Refusal
from egress.wire.head import NoBody, Reject, RequestHead

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mitmproxy import http

    from egress.gate.body import Buffer
    from egress.gate.exchange import Exchange
    from egress.gate.gate import Gate
    from egress.mitm.connection import ClientConnection
    from egress.policy import Request

    type Admit = Callable[[ClientConnection, Request, str | None, Buffer | None], Awaitable[Exchange | Denial]]
    type Admitted = Callable[[ClientConnection, http.HTTPFlow, Exchange], bool]
    type Over = Callable[[ClientConnection, http.HTTPFlow, RequestHead | Reject, Exchange], None]
    type Refuse = Callable[[ClientConnection, http.HTTPFlow, RequestHead | Reject, Denial, bool], None]

_TRAILERS = "fields after the body are not passed on: no rule has seen them"
_BROKEN = "the body breaks the rules of HTTP, or its client left"


class AwaitedHooks:
    """`admit` asks the gate, `admitted` and `refuse` do to a flow what it answered; `over` ends what a limit holds."""

    def __init__(self, gate: Gate, admit: Admit, admitted: Admitted, refuse: Refuse, over: Over) -> None:
        self._gate = gate
        self._admit = admit
        self._admitted = admitted
        self._refuse = refuse
        self._over = over
        self._recording: set[asyncio.Task[Denial]] = set()

    def judged_unread(self, flow: http.HTTPFlow, head: RequestHead | Reject, request: Request) -> Request | None:
        """The request with what is known of its body already; None: it has to be awaited."""
        if isinstance(head, Reject):
            return None
        return judged_unread(request, head.framing, self._gate.bodies.most, framed=not flow.request.is_http2)

    def begin(self, connection: ClientConnection, flow: http.HTTPFlow, request: Request, sni: str | None) -> None:
        """Have mitmproxy gather the body, then call `request`."""
        flow.request.stream = False
        forget_expectation(flow, head_of_flow(flow))
        awaited = Awaited(request, sni, HeldBody(self._gate.bodies), self._recorder(connection, sni))
        flow.metadata[AWAITED] = awaited
        if connection.closed:
            # The client left while its head was judged: nobody would end the wait later.
            awaited.end(Reason.REQUEST_MALFORMED, _BROKEN)
            return
        connection.awaited.add(awaited)
        awaited.wait(self._gate.limits.body_seconds, connection.close)

    async def request(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """All of the request is here. One whose body was awaited is judged now; the others were."""
        awaited = awaited_of(flow)
        if awaited is None:
            return
        awaited.settle()
        connection.awaited.discard(awaited)
        judged = False
        try:
            judged = await self._judge(connection, flow, awaited)
        finally:
            awaited.held.give_back()
            if not judged:
                # A fault before the gate answered, which then left no row.
                awaited.record(awaited.request, Reason.INTERNAL_ERROR, "")

    async def _judge(self, connection: ClientConnection, flow: http.HTTPFlow, awaited: Awaited) -> bool:
        """Ask the gate, which records what it answers; True once it has."""
        data, head = flow.request.raw_content or b"", head_of_flow(flow)
        if flow.request.trailers:
            denial = await self._gate.refuse(
                connection.client, awaited.request, Reason.REQUEST_MALFORMED, _TRAILERS, sni=awaited.sni
            )
            self._refuse(connection, flow, head, denial, True)  # noqa: FBT003 - the whole of it is here
            return True
        outcome = await self._admit(connection, judged_whole(awaited.request, data), awaited.sni, data)
        if isinstance(outcome, Denial):
            self._refuse(connection, flow, head, outcome, True)  # noqa: FBT003 - likewise
        elif self._admitted(connection, flow, outcome):
            if len(await limited_up(outcome, data)) < len(data):
                self._over(connection, flow, head, outcome)
                return True
            sent = whole_body(outcome, data)
            _frame(flow, head, bytes(count_up(outcome, sent)) + bytes(outcome.upward.end()))
            flow.response = None
        return True

    async def body_refused(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """An awaited body has grown beyond what is held of one."""
        awaited, problem = awaited_of(flow), flow.metadata.get(BODY_PROBLEM)
        if awaited is None or not isinstance(problem, Refusal):
            raise LookupError("no body was awaited")
        awaited.settle()
        awaited.held.give_back()
        connection.awaited.discard(awaited)
        denial = await self._gate.refuse(
            connection.client, awaited.request, problem.reason, problem.detail, sni=awaited.sni
        )
        self._refuse(connection, flow, head_of_flow(flow), denial, False)  # noqa: FBT003 - the rest still comes

    def never_whole(self, connection: ClientConnection, flow: http.HTTPFlow) -> None:
        """A body that was awaited broke off, or broke the rules."""
        awaited = awaited_of(flow)
        if awaited is not None:
            connection.awaited.discard(awaited)
            awaited.end(Reason.REQUEST_MALFORMED, _BROKEN)

    def _recorder(self, connection: ClientConnection, sni: str | None) -> Callable[[Request, Reason, str], None]:
        """What leaves a row where nobody waits for it."""

        def record(request: Request, reason: Reason, detail: str) -> None:
            connection.recorded += 1
            task = asyncio.ensure_future(self._gate.refuse(connection.client, request, reason, detail, sni=sni))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)

        return record


def head_of_flow(flow: http.HTTPFlow) -> RequestHead | Reject:
    """The head as our own parser read it."""
    head: RequestHead | None = getattr(flow.request, HEAD, None)
    return head_of(flow.request) if head is None else head


def forget_expectation(flow: http.HTTPFlow, head: RequestHead | Reject) -> None:
    """Have nobody told to go on who does not know how: HTTP/1.0 has no interim answers (RFC 9110, section 10.1.1)."""
    if isinstance(head, RequestHead) and not head.expects_continue:
        flow.request.headers.pop("expect", None)


def _frame(flow: http.HTTPFlow, head: RequestHead | Reject, body: bytes) -> None:
    """What was judged is what goes up, in our own framing."""
    flow.request.data.content = body
    flow.request.headers.pop("transfer-encoding", None)
    if body or not isinstance(head, RequestHead) or not isinstance(head.framing, NoBody):
        flow.request.headers["content-length"] = str(len(body))

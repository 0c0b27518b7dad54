"""What is known of one accepted connection: who asks, its grants, what is under way on it, and what may interrupt it.

1. everything starts in the state that lets nothing through; no grant, no destination
2. whatever ends it (its own end, a deadline, a reload, a fault), what is under way gets its outcome, once
3. an interruption cancels the task that carries the connection; nothing else closes its sockets
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from egress.gate.denial import Denial
from egress.gate.exchange import Exchange
from egress.gate.gate import Asked
from egress.gate.grant import GrantBook
from egress.gate.judged_body import BodyWanted
from egress.policy import Protocol, Reason, Refusal, Request
from egress.proxy.entrance import PROXY

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from egress.gate.body import Buffer
    from egress.gate.connecting import Destination
    from egress.gate.exchange import Client
    from egress.gate.gate import Gate
    from egress.gate.identity import Saying
    from egress.policy import Address, Host
    from egress.proxy.clock import Clock
    from egress.proxy.endpoint import Endpoint
    from egress.proxy.entrance import Entrance
    from egress.proxy.limits import FrontLimits

logger = logging.getLogger(__name__)

CLIENT_CLOSED = "client-closed"


class Phase(Enum):
    """What the connection waits for; a deadline that passes means something else in each."""

    HEAD = auto()
    IDLE = auto()
    CARRYING = auto()


async def everywhere() -> bool:
    """Room for whoever needs none."""
    return True


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection. `recorded` counts the decisions that it left; `deadline` is the loop's time.

    `address` is the peer's, without its port, or tells its user. `judging` is what the gate is being asked, and no row
    tells of yet. `bound` is the CONNECT that was allowed, for as long as this process carries what comes inside.
    `move_in` takes a place among its sandbox's connections, once that is known. `entrance`: where it came in.
    """

    gate: Gate
    clock: Clock
    limits: FrontLimits
    client: Client
    endpoint: Endpoint
    address: str
    task: asyncio.Task[None] | None = None
    book: GrantBook = field(default_factory=GrantBook)
    exchange: Exchange | None = None
    sni: str | None = None
    phase: Phase = Phase.HEAD
    deadline: float = float("inf")
    interruption: str = ""
    recorded: int = 0
    judging: Request | None = None
    bound: Request | None = None
    move_in: Callable[[], Awaitable[bool]] = everywhere
    entrance: Entrance = PROXY

    # time

    def expect(self, phase: Phase, seconds: float) -> None:
        """From now on wait for this, so long at most."""
        self.phase = phase
        self.deadline = self.clock.now() + seconds

    def moved(self) -> None:
        """Something was carried: the wait for the next starts anew."""
        self.deadline = self.clock.now() + self.limits.idle_seconds

    def late(self) -> None:
        """The deadline has passed."""
        self.deadline = float("inf")
        self.interrupt(CLIENT_CLOSED if self.phase is Phase.IDLE else Reason.LIMIT_TIME.value)

    def interrupt(self, why: str) -> None:
        """End it; `why` is a reason code for the outcome of what is under way."""
        if not self.interruption and self.task is not None:
            self.interruption = why
            self.task.cancel()

    # decisions

    async def identify(self, said: Saying) -> Refusal | None:
        """Learn from what is said to the proxy itself which sandbox this is; a refusal if none, or without room."""
        if self.gate.generation.roster is None:
            return None
        found = self.gate.identify(self.client, said)
        if isinstance(found, Refusal):
            return found
        if found is self.client:
            return None
        # Not settled until it has room: the next head asks for some again.
        self.client = replace(found, settled=False)
        if await self.move_in():
            self.client = found
            return None
        return Refusal(Reason.LIMIT_CONNECTIONS, "")

    async def judge_connect(self, host: Host, port: int) -> Destination | Denial:
        """Ask the gate whether the client may go on towards a destination."""
        self.judging = Request(self.client.sandbox, Protocol.HTTPS, host, port)
        outcome = await self.gate.judge_connect(self.client, host, port)
        self.judging = None
        if isinstance(outcome, Denial):
            self.recorded += 1
        return outcome

    async def admit(
        self, request: Request, peer: Address | None = None, body: Buffer | None = None
    ) -> Exchange | Denial:
        """Ask the gate; an admitted exchange is under way on this connection. `body`: all of it, where it is held."""
        self.judging = request
        asked = Asked(self.client, request, self.book, self.interrupt, self.sni, peer, body=body)
        outcome = await self.gate.admit(asked)
        return self._admitted(outcome)

    async def admit_head(self, request: Request, peer: Address | None = None) -> Exchange | Denial | BodyWanted:
        """As `admit`, of a request whose body can be read first; where it is wanted, the request is still judged."""
        self.judging = request
        asked = Asked(self.client, request, self.book, self.interrupt, self.sni, peer, reads_body=True)
        outcome = await self.gate.admit_head(asked)
        return outcome if isinstance(outcome, BodyWanted) else self._admitted(outcome)

    def _admitted(self, outcome: Exchange | Denial) -> Exchange | Denial:
        self.judging = None
        self.recorded += 1
        if isinstance(outcome, Exchange):
            self.exchange = outcome
        return outcome

    async def refuse(self, request: Request, refusal: Refusal) -> Denial:
        """Refuse for a reason that no rule gave, and record it."""
        self.judging = None
        self.recorded += 1
        return await self.gate.refuse(self.client, request, refusal.reason, refusal.detail, sni=self.sni)

    async def refuse_unread(self, reason: Reason, detail: str = "") -> Denial:
        """Refuse what could not be read as a request at all, and record it."""
        self.recorded += 1
        return await self.gate.refuse_unread(self.client, reason, detail)

    def finish(self, error: str = "") -> None:
        """Record the outcome of what is under way."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.book.drop(exchange.id)
            exchange.finish(error)

"""One admitted request or tunnel, from its decision to its outcome.

INVARIANT every-decision-leaves-a-record: an exchange exists only after its decision was queued for the audit, and
`finish` queues its outcome exactly once, whatever happened in between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.audit import OutcomeEvent
from egress.gate.body import STRAIGHT, BodyPath

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address, IPv6Address

    from egress.credentials import BodyLook, Rendered
    from egress.gate.generation import Generation
    from egress.gate.roster import ClientPlace
    from egress.gate.shares import Held
    from egress.policy import Decision, Request


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the sandbox's name, the peer, and the lane that carries it once one was picked.

    `peer` is its `address:port`, or `unix:uid=USER`.

    `place` is where it came from, if that is known; `road`, which way, as the audit has it (None: HTTP to a proxy).
    `settled`: a request or CONNECT on the connection said, or left it to its place, who it is; from then on it is
    nobody else.
    """

    sandbox: str
    peer: str
    lane: str | None = None
    place: ClientPlace | None = None
    settled: bool = False
    road: str | None = None


@dataclass(slots=True, eq=False)
class Exchange:
    """What is known of an admitted request. Byte counts are of bodies (HTTP) or of everything carried (tunnel).

    `request` is what goes up. `asked`, where a rule rewrote it, is what the client asked for: pages tell of that.
    `quota`: what it holds of its rules' limits, until it is finished; None where they have none. `look`: what looks for
    placeholders in the body as it passes; None where nothing is to be looked for, or any more.
    """

    id: str
    client: Client
    request: Request
    decision: Decision
    rendered: Rendered
    generation: Generation
    on_finish: Callable[[Exchange, OutcomeEvent], None]
    cut: Callable[[str], None]
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    address: str = ""
    status: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    finished: bool = False
    upward: BodyPath = STRAIGHT
    downward: BodyPath = STRAIGHT
    asked: Request | None = None
    quota: Held | None = None
    look: BodyLook | None = None

    def response_started(self, status: int | None) -> None:
        """The first byte of the answer is here."""
        self.status = status
        if self.first_byte is None:
            self.first_byte = time.monotonic()

    def release(self) -> None:
        """Hold nothing of any limit any more."""
        if self.quota is not None:
            self.quota.release()

    def finish(self, error: str = "") -> None:
        """Record the outcome; only the first call counts. `error` is a sentence of ours, never bytes of the wire."""
        if self.finished:
            return
        self.finished = True
        if self.quota is not None:
            self.release()
        now = time.monotonic()
        outcome = OutcomeEvent(
            id=self.id,
            time_us=time.time_ns() // 1000,
            address=self.address or None,
            status=self.status,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            duration_us=int((now - self.started) * 1e6),
            first_byte_us=None if self.first_byte is None else int((self.first_byte - self.started) * 1e6),
            error=error or None,
        )
        self.on_finish(self, outcome)

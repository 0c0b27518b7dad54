"""A request whose body is awaited, because a rule asks for it: nothing of it has left, and nothing is recorded yet.

INVARIANT every-decision-leaves-a-record: whatever ends the wait (the body, its client, a deadline, a fault) settles it,
once; only a body that is whole is given to the gate.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitmproxy import http

    from egress.gate.judged_body import HeldBody
    from egress.policy import Request

AWAITED: Final = "egress.awaited"


@dataclass(slots=True, eq=False)
class Awaited:
    """One such request. `record` leaves the row of a refusal."""

    request: Request
    sni: str | None
    held: HeldBody
    record: Callable[[Request, Reason, str], None]
    settled: bool = False
    deadline: asyncio.TimerHandle | None = None

    def wait(self, seconds: float, then: Callable[[], None]) -> None:
        """The body must be whole in so many seconds, else its request is refused, and `then` called."""

        def late() -> None:
            self.end(Reason.LIMIT_TIME, "the body")
            then()

        self.deadline = asyncio.get_running_loop().call_later(seconds, late)

    def settle(self) -> bool:
        """The wait is over; False if it was before."""
        first = not self.settled
        self.settled = True
        if self.deadline is not None:
            self.deadline.cancel()
        return first

    def end(self, reason: Reason, detail: str) -> None:
        """The body will never be whole: leave a record."""
        self.held.give_back()
        if self.settle():
            self.record(self.request, reason, detail)


def awaited_of(flow: http.HTTPFlow) -> Awaited | None:
    """The request of a flow whose body is awaited still."""
    found = flow.metadata.get(AWAITED)
    return found if isinstance(found, Awaited) and not found.settled else None

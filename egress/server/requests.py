"""What may be asked on the control socket: `{"command": "reload"}` and `{"command": "status"}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.server.reloads import Reloads
    from egress.server.status import Status


class Requests:
    """Passes requests on to who answers them."""

    def __init__(self, reloads: Reloads, status: Status) -> None:
        self._reloads = reloads
        self._status = status

    def handle(self, request: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], None]) -> None:
        """Answer a request, once what it asks for is done."""
        match request:
            case {"command": "reload", **more} if not more:
                self._reloads.want(lambda outcome: answer(outcome.plain()))
            case {"command": "status", **more} if not more:
                self._status.ask(answer)
            case _:
                answer({"error": "this proxy knows no such request"})

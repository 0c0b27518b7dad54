"""What may be asked on the control socket, by `command`.

`reload`, `status` and `sandbox-list` have no further keys; `sandbox-rm` has `name`; `sandbox-add` has `name`, and if
wanted `sources` and `uids` (lists), `labels` (an object), `policy` (its text) and `ttl` (seconds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.server.registrations import Registrations
    from egress.server.reloads import Reloads
    from egress.server.status import Status


class Requests:
    """Passes requests on to who answers them."""

    def __init__(self, reloads: Reloads, status: Status, registrations: Registrations) -> None:
        self._reloads = reloads
        self._status = status
        self._registrations = registrations

    def handle(self, request: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], None], who: str) -> None:
        """Answer a request, once what it asks for is done. `who` asks, for the record."""
        match request:
            case {"command": "reload", **more} if not more:
                self._reloads.want(who, lambda outcome: answer(outcome.plain()))
            case {"command": "status", **more} if not more:
                self._status.ask(answer)
            case {"command": "sandbox-list", **more} if not more:
                self._status.ask_sandboxes(answer)
            case {"command": "sandbox-add" | "sandbox-rm"}:
                listening = self._status.address(unix=bool(request.get("uids")))
                self._registrations.ask(request, lambda told: answer({**told, "listening": listening}), who)
            case _:
                answer({"error": "this proxy knows no such request"})

"""`admin`: health, readiness and metrics over HTTP, served by the supervisor beside the control socket.

1. `/healthz`  200 for as long as the supervisor acts on what happens
2. `/readyz`   200 if the proxy is ready, else 503, with a JSON object that says what is not
3. `/metrics`  for Prometheus, or in OpenMetrics where the client asks for it

INVARIANT bounded: so many clients, so many bytes, so much time. Nothing here waits for a client, and no process that
carries a sandbox's traffic serves one. Where there is no room, the client that has been silent longest makes it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from egress.config import UnixListener
from egress.server.admin_http import JSON, Answer, Asked, read
from egress.server.askers import AT_MOST, Asker, Askers, Manners
from egress.server.metrics import OPEN_METRICS, PROMETHEUS, rendered
from egress.server.metrics_told import families

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from egress.server.admin_socket import AdminSocket
    from egress.server.events import Events

_INDEX: Final = "/healthz\n/readyz\n/metrics\n"

type Ask = Callable[[Callable[[Mapping[str, Any]], None]], None]


class Admin:
    """Serves a socket. `ask` calls back with the whole status of the proxy."""

    def __init__(self, listening: AdminSocket, events: Events, ask: Ask) -> None:
        self._listening = listening
        self._ask = ask
        unix = isinstance(listening.config.listen, UnixListener)
        names = None if unix else listening.config.hosts
        manners = Manners("admin", self._admit, lambda said: read(said, names), self._asked)
        self._askers: Askers[Asked | Answer] = Askers(listening.sock, events, manners)

    def close(self) -> None:
        """Answer nobody any more. The socket is its owner's to close."""
        self._askers.close()

    def close_inherited(self) -> None:
        """In a forked process: keep nothing of it open."""
        self._listening.leave()
        self._askers.close_inherited()

    def _admit(self, _: socket.socket) -> str | None:
        if self._askers.count >= AT_MOST:
            self._askers.make_room()
        return "" if self._askers.count < AT_MOST else None

    def _asked(self, client: Asker[Asked | Answer], asked: Asked | Answer) -> None:
        if isinstance(asked, Answer):
            self._answer(client, asked)
            return
        match asked.path:
            case "/healthz":
                self._answer(client, Answer(200, "ok\n"))
            case "/readyz":
                self._ask(lambda told: self._answer(client, _readiness(told)))
            case "/metrics":
                self._ask(lambda told: self._answer(client, _metrics(told, open_metrics=asked.open_metrics)))
            case "/":
                self._answer(client, Answer(200, _INDEX))
            case _:
                self._answer(client, Answer(404, f"there is nothing here but\n{_INDEX}"))

    def _answer(self, client: Asker[Asked | Answer], answer: Answer) -> None:
        head_only = isinstance(client.asked, Asked) and client.asked.head_only
        self._askers.answer(client, answer.message(head_only=head_only))


def _readiness(told: Mapping[str, Any]) -> Answer:
    told = {key: told[key] for key in ("ready", "checks", "reasons")}
    return Answer(200 if told["ready"] else 503, json.dumps(told) + "\n", JSON)


def _metrics(told: Mapping[str, Any], *, open_metrics: bool) -> Answer:
    text = rendered(families(told), open_metrics=open_metrics)
    return Answer(200, text, OPEN_METRICS if open_metrics else PROMETHEUS)

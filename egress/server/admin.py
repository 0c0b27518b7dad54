"""`admin`: health, readiness and metrics over HTTP, served by the supervisor beside the control socket.

1. `/healthz`  200 for as long as the supervisor acts on what happens
2. `/readyz`   200 if the proxy is ready, else 503, with a JSON object that says what is not
3. `/metrics`  for Prometheus, or in OpenMetrics where the client asks for it

INVARIANT bounded: so many clients, so many bytes, so much time. Nothing here waits for a client, and no process that
carries a sandbox's traffic serves one. Where there is no room, the client that has been silent longest makes it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from egress.config import UnixListener
from egress.server.admin_http import JSON, MOST_ASKED, Answer, Asked, read
from egress.server.events import WRITE
from egress.server.metrics import OPEN_METRICS, PROMETHEUS, rendered
from egress.server.metrics_told import families

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from egress.server.admin_socket import AdminSocket
    from egress.server.events import Events, Timer

logger = logging.getLogger(__name__)

_CLIENTS_AT_MOST: Final = 16
# To say what is wanted, and to take the answer, each.
_CLIENT_SECONDS: Final = 5.0
_INDEX: Final = "/healthz\n/readyz\n/metrics\n"

type Ask = Callable[[Callable[[Mapping[str, Any]], None]], None]


@dataclass(slots=True, eq=False)
class _Client:
    sock: socket.socket
    timer: Timer | None = None
    said: bytearray = field(default_factory=bytearray)
    asked: Asked | None = None
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class Admin:
    """Serves a socket. `ask` calls back with the whole status of the proxy."""

    def __init__(self, listening: AdminSocket, events: Events, ask: Ask) -> None:
        self._listening = listening
        self._events = events
        self._ask = ask
        unix = isinstance(listening.config.listen, UnixListener)
        self._names = None if unix else listening.config.hosts
        self._clients: dict[_Client, None] = {}
        events.watch(listening.sock, self._accept)

    def close(self) -> None:
        """Answer nobody any more. The socket is its owner's to close."""
        for client in tuple(self._clients):
            self._end(client)
        self._events.forget(self._listening.sock)

    def close_inherited(self) -> None:
        """In a forked process: keep nothing of it open."""
        self._listening.leave()
        for client in self._clients:
            client.sock.close()

    # one client

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Most likely no descriptor is left: trying again at once would be all that the supervisor does.
            logger.warning("admin: a client cannot be accepted: %s", error.strerror)
            self._events.forget(self._listening.sock)
            self._events.later(_CLIENT_SECONDS, self._resume)
            return
        sock.setblocking(False)  # noqa: FBT003 - the method takes it so
        if not self._has_room():
            sock.close()
            return
        client = _Client(sock)
        self._clients[client] = None
        self._limit(client)
        self._events.watch(sock, lambda: self._readable(client))

    def _has_room(self) -> bool:
        """Whoever holds connections open and says nothing must not keep a probe out."""
        if len(self._clients) >= _CLIENTS_AT_MOST:
            silent = next((client for client in self._clients if client.asked is None), None)
            if silent is not None:
                self._end(silent)
        return len(self._clients) < _CLIENTS_AT_MOST

    def _resume(self) -> None:
        if self._listening.sock.fileno() >= 0:
            self._events.watch(self._listening.sock, self._accept)

    def _limit(self, client: _Client) -> None:
        self._events.cancel(client.timer)
        client.timer = self._events.later(_CLIENT_SECONDS, lambda: self._end(client))

    def _end(self, client: _Client) -> None:
        self._clients.pop(client, None)
        self._events.cancel(client.timer)
        self._events.forget(client.sock)
        client.sock.close()

    def _readable(self, client: _Client) -> None:
        try:
            data = client.sock.recv(MOST_ASKED)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        # Who asked has nothing more to say: another word, or the end, and nobody waits for the answer.
        if not data or client.asked is not None:
            self._end(client)
            return
        client.said += data
        found = read(client.said, self._names)
        if isinstance(found, Answer):
            client.asked = Asked("")
            self._answer(client, found)
        elif found is not None:
            client.asked = found
            # From here on it is we who take our time.
            self._events.cancel(client.timer)
            self._asked(client, found)

    def _asked(self, client: _Client, asked: Asked) -> None:
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

    def _answer(self, client: _Client, answer: Answer) -> None:
        if client not in self._clients:
            return
        client.answer = memoryview(answer.message(head_only=client.asked is not None and client.asked.head_only))
        self._limit(client)
        self._events.watch(client.sock, lambda: self._writable(client), WRITE)

    def _writable(self, client: _Client) -> None:
        try:
            client.answer = client.answer[client.sock.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.answer = memoryview(b"")
        if not client.answer:
            self._end(client)


def _readiness(told: Mapping[str, Any]) -> Answer:
    told = {key: told[key] for key in ("ready", "checks", "reasons")}
    return Answer(200 if told["ready"] else 503, json.dumps(told) + "\n", JSON)


def _metrics(told: Mapping[str, Any], *, open_metrics: bool) -> Answer:
    text = rendered(families(told), open_metrics=open_metrics)
    return Answer(200, text, OPEN_METRICS if open_metrics else PROMETHEUS)

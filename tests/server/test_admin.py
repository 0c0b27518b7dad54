"""`admin`: what it answers, to whom, how much and how long, and that nobody who asks holds up the supervisor."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress.config import AdminConfig, UnixListener
from egress.errors import StartError
from egress.server import askers as askers_module
from egress.server.admin import Admin
from egress.server.admin_http import MOST_ASKED
from egress.server.admin_socket import AdminSocket
from egress.server.events import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

READY: dict[str, Any] = {
    "ready": True,
    "checks": {"hub": True},
    "reasons": [],
    "version": "0.1.0",
    "uptime": 5.0,
    "policy": {
        "generation": 1,
        "digest": "f" * 64,
        "loaded": 1_800_000_000,
        "last_good": None,
        "scopes": [{"scope": "org", "rules": 2, "mode": None}],
        "reporting": [],
        "sandboxes": None,
    },
    "reload": None,
    "processes": [{"name": "hub", "state": "ready", "connections": None, "open": None}],
    "counters": {"recorded": 3, "refused": 0},
    "measured": {"hub": {}, "waiting": 0, "sandboxes": {}, "own": {}, "processes": {}},
}
NOT_READY = {**READY, "ready": False, "checks": {"hub": False}, "reasons": ["the process `hub` is not ready"]}


class Served:
    """`admin` on a port or a socket, and what its owner would do meanwhile."""

    def __init__(self, config: AdminConfig) -> None:
        self.events = Events()
        self.told: Mapping[str, Any] | None = READY
        self.waiting: list[Callable[[Mapping[str, Any]], None]] = []
        self.socket = AdminSocket(config)
        self.admin = Admin(self.socket, self.events, self._ask)

    def _ask(self, done: Callable[[Mapping[str, Any]], None]) -> None:
        if self.told is None:
            self.waiting.append(done)
        else:
            done(self.told)

    def client(self, data: bytes = b"") -> socket.socket:
        """A client that said this."""
        listening = self.socket.sock
        sock = socket.socket(listening.family, socket.SOCK_STREAM)
        sock.connect(listening.getsockname())
        sock.settimeout(5)
        sock.sendall(data)
        return sock

    def turn(self, seconds: float = 0.1) -> None:
        """Let the owner act for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.events.act(time.monotonic() + 0.01)

    def reply(self, sock: socket.socket) -> tuple[int, str, str]:
        """Status, head and body; status 0 where the connection ends without any."""
        sock.settimeout(0)
        data = b""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            self.events.act(time.monotonic())
            try:
                part = sock.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                part = b""
            if not part:
                head, _, body = data.decode().partition("\r\n\r\n")
                return (int(head.split(" ")[1]) if head else 0), head, body
            data += part
        raise AssertionError(data)

    def get(self, path: str, host: str = "127.0.0.1:9180", more: str = "", method: str = "GET") -> tuple[int, str, str]:
        """The reply to one request."""
        with self.client(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()) as sock:
            return self.reply(sock)

    def close(self) -> None:
        """End it."""
        self.admin.close()
        self.socket.close()
        self.events.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """One that has little patience."""
    monkeypatch.setattr(askers_module, "_SECONDS", 0.3)
    made = Served(AdminConfig(("127.0.0.1", 0), hosts=frozenset({"egress.corp.example"})))
    yield made
    made.close()


def test_healthz_needs_nobody_but_the_supervisor(served: Served) -> None:
    """It is answered while the other processes are silent."""
    served.told = None
    assert served.get("/healthz")[::2] == (200, "ok\n")
    assert served.waiting == []


@pytest.mark.parametrize(("told", "status"), [(READY, 200), (NOT_READY, 503)])
def test_readyz_says_what_is_not_ready(served: Served, told: dict[str, Any], status: int) -> None:
    """By status for a probe, by its object for people."""
    served.told = told
    found, head, body = served.get("/readyz")
    assert found == status
    assert "Content-Type: application/json" in head
    assert json.loads(body) == {key: told[key] for key in ("ready", "checks", "reasons")}


@pytest.mark.parametrize(
    ("accept", "kind", "last"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", "process_max_fds"),
        ("Accept: text/plain\r\n", "text/plain; version=0.0.4; charset=utf-8", "process_max_fds"),
        (
            "Accept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF",
        ),
    ],
)
def test_metrics_come_in_the_format_that_is_asked_for(served: Served, accept: str, kind: str, last: str) -> None:
    """Prometheus' own unless the client takes OpenMetrics."""
    status, head, body = served.get("/metrics", more=accept)
    assert (status, f"Content-Type: {kind}" in head) == (200, True)
    assert body.endswith("\n")
    assert body.splitlines()[-1].startswith(last)


def test_head_has_the_length_and_no_body(served: Served) -> None:
    """RFC 9110, section 9.3.2."""
    status, head, body = served.get("/healthz", method="HEAD")
    assert (status, "Content-Length: 3" in head, body) == (200, True, "")


REFUSED = (
    ("POST", "/metrics", "127.0.0.1", 405),
    ("DELETE", "/", "127.0.0.1", 405),
    ("CONNECT", "example.com:443", "example.com:443", 405),
    ("GET", "http://example.com/", "example.com", 400),
    ("GET", "/nothing", "127.0.0.1", 404),
    ("GET", "/metrics/../healthz", "127.0.0.1", 404),
    ("GET", "/metrics", "evil.test", 403),
    ("GET", "/metrics", "127.0.0.1.evil.test", 403),
    ("GET", "/metrics", "localhost.evil.test:80", 403),
    ("GET", "/metrics", "", 400),
    ("GET", "/metrics", "a b", 400),
    ("GET", "/metrics", "127.0.0.1\r\nHost: localhost", 400),
)


@pytest.mark.parametrize(("method", "path", "host", "status"), REFUSED)
def test_what_may_not_be_asked_is_refused(served: Served, method: str, path: str, host: str, status: int) -> None:
    """Other methods, other forms, other paths, and names that a page in a browser could bring (DNS rebinding)."""
    assert served.get(path, host, method=method)[0] == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9180", "[::1]:9180", "10.1.2.3:80", "Egress.Corp.Example"])
def test_addresses_localhost_and_configured_names_may_be_said(served: Served, host: str) -> None:
    """What no rebinding can make a browser say."""
    assert served.get("/metrics", host)[0] == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
        (b"GET /" + b"a" * MOST_ASKED, 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 51 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: " + b"b" * MOST_ASKED + b"\r\n\r\n", 400),
        (b"", 0),
        (b"GET / HTTP/1.1\r\nHost: loc", 0),
    ],
)
def test_a_head_is_strict_bounded_and_in_time(served: Served, data: bytes, status: int) -> None:
    """What is too long is refused, and who is slow or silent is closed; others are answered meanwhile."""
    with served.client(data) as sock:
        assert served.get("/healthz")[0] == 200
        assert served.reply(sock)[0] == status


def test_who_holds_connections_open_keeps_no_probe_out(served: Served) -> None:
    """The silent make room, the longest there first; those who wait for an answer do not."""
    served.told = None
    waiting = served.client(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    served.turn(0.05)
    silent = [served.client() for _ in range(askers_module.AT_MOST - 1)]
    served.turn(0.05)
    assert served.get("/healthz")[0] == 200
    served.waiting[0](READY)
    assert served.reply(waiting)[0] == 200
    for sock in (waiting, *silent):
        sock.close()


def test_there_are_so_many_clients_at_most(served: Served) -> None:
    """Where all wait for an answer, one more is closed."""
    served.told = None
    waiting = [served.client(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".replace(b"x", b"localhost")) for _ in range(16)]
    served.turn()
    assert len(served.waiting) == 16
    assert served.get("/healthz")[0] == 0
    for sock in waiting:
        sock.close()


def test_who_left_is_not_answered(served: Served) -> None:
    """The answer comes too late, and is dropped."""
    served.told = None
    served.client(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").close()
    served.turn()
    served.waiting[0](READY)
    served.turn()


def test_on_a_unix_socket_any_host_may_be_said_by_its_own_user(tmp_path: Path) -> None:
    """No browser comes there; the file's permissions say who may."""
    path = tmp_path / "admin.sock"
    served = Served(AdminConfig(UnixListener(str(path))))
    assert path.stat().st_mode & 0o777 == 0o600
    assert served.get("/healthz", "whatever")[0] == 200
    assert (served.socket.told, served.socket.ports) == (f"unix:{path}", frozenset())
    served.close()
    assert not path.exists()


def test_an_address_that_is_taken_stops_the_start(served: Served) -> None:
    """With what to do."""
    port = served.socket.sock.getsockname()[1]
    assert served.socket.ports == {port}
    with pytest.raises(StartError, match="Address already in use") as raised:
        AdminSocket(AdminConfig(("127.0.0.1", port)))
    assert "--admin" in raised.value.hint

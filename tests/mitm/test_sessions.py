"""TLS sessions with upstreams: resumed with whom they were made, for whom they were made, and not for ever."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.modes import HOST, Mode, Site, make_site
from rig.proxy import LOOPBACK
from rig.wire import trusting

from egress.mitm import sessions
from egress.mitm.sessions import SESSIONS_AT_MOST, VERIFIED_SECONDS, Place, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.authority import TestAuthority
    from harness.origins import Origins
    from rig.proxy import Proxy

OTHER = "other.test"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
PLACE = Place("default", "ok.test", 443, "127.0.0.1")


@dataclass
class Server:
    """A TLS server with one context for all names: any of its tickets is good for it under any name."""

    listening: socket.socket
    context: ssl.SSLContext
    resumed: list[tuple[str | None, bool]] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listening.getsockname()[1])

    def serve(self) -> None:
        """Answer one request a connection."""
        named: list[str | None] = []
        self.context.sni_callback = lambda _tls, name, _context: named.append(name)
        while True:
            try:
                carrier, _ = self.listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), self.context.wrap_socket(carrier, server_side=True) as wire:
                self.resumed.append((named[-1] if named else None, bool(wire.session_reused)))
                if wire.recv(65_536):
                    wire.sendall(ANSWER)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls1.2", "tls1.3"])
def server(request: pytest.FixtureRequest, roots: TestAuthority) -> Iterator[Server]:
    """A server with a certificate for one name and the address."""
    context = roots.server_context(HOST)
    context.maximum_version = request.param
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Server(listening, context)
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins, server: Server) -> Site:
    """A proxy that may reach the server by two names."""
    rules = ", ".join(f"{{allow: '{name}:{server.port}', {LOOPBACK}}}" for name in (HOST, OTHER))
    return Site(start(f"version: 1\nrules: [{rules}]\n", HOST, OTHER), origin, server.port)


def ask(site: Site, host: str) -> int:
    """The status of one request on a connection of its own."""
    with site.proxy.inside(host, site.port, "http/1.1") as wire:
        wire.send(f"GET / HTTP/1.1\r\nHost: {host}:{site.port}\r\n\r\n".encode())
        return wire.reply().status


def test_the_next_connection_to_the_same_place_resumes(site: Site, server: Server) -> None:
    """The first verifies; those after it go on from there."""
    assert [ask(site, HOST) for _ in range(4)] == [200] * 4
    assert [resumed for _, resumed in server.resumed] == [False, True, True, True]


def test_a_session_is_good_for_no_other_name(site: Site, server: Server) -> None:
    """INVARIANT one-name: the server would resume it, and its certificate for that name was never seen."""
    assert ask(site, HOST) == 200
    assert ask(site, OTHER) == 502
    assert ask(site, OTHER) == 502
    assert all(not resumed for name, resumed in server.resumed if name == OTHER)
    assert ask(site, HOST) == 200


def test_a_session_is_verified_anew_after_a_while(site: Site, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it was resumed."""
    assert [ask(site, HOST) for _ in range(2)] == [200, 200]
    monkeypatch.setattr(sessions, "VERIFIED_SECONDS", 0.0)
    assert ask(site, HOST) == 200
    assert [resumed for _, resumed in server.resumed] == [False, True, False]


def test_a_server_that_resumes_nothing_is_verified_each_time(start: Callable[..., Proxy], origin: Origins) -> None:
    """A ticket that the server does not know is no way around its certificate."""
    site = make_site(start, origin)
    with site.origin.behaving(answer_ok):
        assert site.exchange(Mode.TLS1).status == 200
    with site.origin.behaving(answer_ok, fault="wrong-name"):
        assert site.exchange(Mode.TLS1).reason == "upstream-tls"
    with site.origin.behaving(answer_ok):
        assert site.exchange(Mode.TLS1).status == 200


# the store


class Connection:
    """As much of a connection as the store asks for."""

    _ssl = None

    def __init__(self, *, resumes: bool = True, gives: object | None = "session") -> None:
        self.resumes, self.gives = resumes, gives
        self.offered: object | None = None

    def set_session(self, session: object) -> None:
        """What is offered."""
        self.offered = session

    def get_session(self) -> object | None:
        """What came of it."""
        return self.gives


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, and connections that say themselves whether they resumed."""
    monkeypatch.setattr(sessions, "_was_resumed", lambda connection: connection.resumes)
    return [1000.0]


def test_the_time_of_the_verification_outlives_resumptions(now: list[float]) -> None:
    """Each resumption brings a new session, of the same verification."""
    store = Sessions(lambda: now[0])
    store.keep(store.begin(PLACE, Connection()))  # type: ignore[arg-type]
    for _ in range(3):
        now[0] += VERIFIED_SECONDS / 4
        resumed = Connection()
        store.keep(store.begin(PLACE, resumed))  # type: ignore[arg-type]
        assert resumed.offered == "session"
    now[0] += VERIFIED_SECONDS / 4
    late = Connection()
    assert store.begin(PLACE, late).verified_at is None  # type: ignore[arg-type]
    assert late.offered is None


def test_a_session_that_was_offered_and_not_taken_counts_as_verified_now(now: list[float]) -> None:
    """The server declined it: the certificate was verified."""
    store = Sessions(lambda: now[0])
    store.keep(store.begin(PLACE, Connection()))  # type: ignore[arg-type]
    now[0] += VERIFIED_SECONDS - 1
    store.keep(store.begin(PLACE, Connection(resumes=False)))  # type: ignore[arg-type]
    now[0] += VERIFIED_SECONDS - 1
    assert store.begin(PLACE, Connection()).verified_at == 1000.0 + VERIFIED_SECONDS - 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        Place("another", "ok.test", 443, "127.0.0.1"),
        Place("default", "www.ok.test", 443, "127.0.0.1"),
        Place("default", "ok.test", 8443, "127.0.0.1"),
        Place("default", "ok.test", 443, "127.0.0.2"),
    ],
    ids=["sandbox", "host", "port", "address"],
)
def test_a_session_is_for_one_place(other: Place, now: list[float]) -> None:
    """Whatever of it differs."""
    store = Sessions(lambda: now[0])
    store.keep(store.begin(PLACE, Connection()))  # type: ignore[arg-type]
    elsewhere = Connection()
    store.begin(other, elsewhere)  # type: ignore[arg-type]
    assert elsewhere.offered is None


def test_the_store_is_bounded(now: list[float]) -> None:
    """The least lately used goes first; a connection without a session leaves nothing."""
    store = Sessions(lambda: now[0])
    store.keep(store.begin(PLACE, Connection(gives=None)))  # type: ignore[arg-type]
    assert not store._known
    for number in range(SESSIONS_AT_MOST + 5):
        store.keep(store.begin(Place("default", f"{number}.test", 443, "127.0.0.1"), Connection()))  # type: ignore[arg-type]
        store.begin(Place("default", "0.test", 443, "127.0.0.1"), Connection())  # type: ignore[arg-type]
    assert len(store._known) == SESSIONS_AT_MOST
    assert Place("default", "0.test", 443, "127.0.0.1") in store._known
    assert Place("default", "1.test", 443, "127.0.0.1") not in store._known


# towards the client


def test_a_client_that_comes_again_resumes(start: Callable[..., Proxy], origin: Origins) -> None:
    """One context for each leaf: a ticket is good for the next connection to the same name."""
    site = make_site(start, origin)
    context = trusting(site.proxy.authority.certificate_pem)
    session, reused = None, []
    for _ in range(2):
        wire, _ = site.proxy.tunnel(HOST, site.port)
        with (
            site.serving(Mode.TLS1),
            context.wrap_socket(wire.carrier, server_hostname=HOST, session=session) as client,
        ):
            reused.append(client.session_reused)
            client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
            session = client.session
    assert reused == [False, True]

"""The upstream proxy's own affairs: its password, its address, its rest after a refusal, and our own requests."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from harness.authority import TestAuthority
from rig.ledger import wait_until
from rig.upstream_proxies import PASSWORD, USER, UpstreamServer, ask_head, speak_http

from egress.config import (
    EnvSource,
    FileSource,
    ProxyAddress,
    ProxyScheme,
    ServerOverrides,
    StoreSource,
    UpstreamProxy,
    load_server_config,
)
from egress.credentials import Secret
from egress.errors import EgressError
from egress.gate import proxy_tls, tls_stream
from egress.gate.dial import DialFailure, Dialled
from egress.gate.fetching import OwnCalls, check_way, take_password
from egress.gate.grant import Grant
from egress.gate.own import OwnListeners
from egress.gate.proxy_password import ProxyPassword
from egress.gate.upstream_way import UpstreamWay
from egress.policy import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from egress.policy import Address

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
NOWHERE = ip_address("198.51.100.7")
LOCAL = Host("127.0.0.1", ip_address("127.0.0.1"))


@dataclass
class Names:
    """Answers of a resolver, and what it was asked."""

    answers: dict[str, Sequence[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, name: str) -> SimpleNamespace:
        """The answer of the table."""
        self.asked.append(name)
        return SimpleNamespace(addresses=tuple(map(ip_address, self.answers.get(name, ()))))


def stored(name: str) -> SimpleNamespace:
    """A record of a store: bound to loopback's port 3128."""
    return SimpleNamespace(value=Secret(name, PASSWORD), hosts=("127.0.0.1:3128",), methods=(), paths=())


def way_of(proxy: UpstreamProxy, names: Names | None = None, **more: float) -> UpstreamWay:
    """The way through a proxy."""
    password = ProxyPassword(proxy, stored, **more)  # type: ignore[arg-type]
    return UpstreamWay(proxy, names or Names(), OwnListeners(), password, roots=None)  # type: ignore[arg-type]


def grant(host: str = "ok.test", port: int = 443, *addresses: Address) -> Grant:
    """A grant to an address that leads nowhere."""
    return Grant("id", host, port, tls=False, addresses=addresses or (NOWHERE,), expires=1e12)


async def dialled(way: UpstreamWay, to: Grant) -> Dialled | DialFailure:
    """What dialling came to, closed."""
    outcome = await way.dial(to, timeout_seconds=2)
    if isinstance(outcome, Dialled):
        outcome.sock.close()
    return outcome


def proxy_at(server: UpstreamServer, **more: object) -> UpstreamProxy:
    """A proxy by its address."""
    return UpstreamProxy(ProxyAddress(ProxyScheme.HTTP, LOCAL, server.port), **more)  # type: ignore[arg-type]


@pytest.fixture
def target() -> Iterator[socket.socket]:
    """Where the proxies lead."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def server_to(target: socket.socket, **more: object) -> UpstreamServer:
    """A proxy that leads there."""
    return UpstreamServer(speak_http, target.getsockname(), **more)  # type: ignore[arg-type]


def test_a_password_that_was_refused_rests_and_is_read_anew(tmp_path: Path, target: socket.socket) -> None:
    """A sandbox cannot lock the account by asking; a rotated file is found without a restart."""
    path = tmp_path / "password"
    path.write_text("an-old-password\n")
    path.chmod(0o600)
    with server_to(target, signed_in=True) as server:
        way = way_of(proxy_at(server, user=USER, password=FileSource(path)), rest_seconds=0.3)

        async def work() -> None:
            for _ in range(5):
                outcome = await dialled(way, grant())
                assert isinstance(outcome, DialFailure)
                assert "did not accept who we are" in outcome.detail
            assert server.clients == 1
            path.write_text(PASSWORD)
            await asyncio.sleep(0.4)
            assert isinstance(await dialled(way, grant()), Dialled)
            assert server.clients == 2

        asyncio.run(work())


def test_of_many_addresses_none_is_tried_with_what_was_refused(
    target: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refusal is the proxy's last word on who we are."""
    monkeypatch.setenv("P", "wrong-password")
    with server_to(target, signed_in=True) as server:
        way = way_of(proxy_at(server, user=USER, password=EnvSource("P")))
        many = grant("ok.test", 443, *(NOWHERE + number for number in range(5)))
        assert isinstance(asyncio.run(dialled(way, many)), DialFailure)
        assert server.clients == 1


def test_the_next_address_is_asked_for_where_one_is_refused(target: socket.socket) -> None:
    """IPv6 may be closed to the proxy, and IPv4 open."""

    def picky(server: UpstreamServer, client: socket.socket) -> None:
        if server.clients == 1:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 503 No\r\n\r\n")
        else:
            speak_http(server, client)

    with UpstreamServer(picky, target.getsockname()) as server:
        outcome = asyncio.run(dialled(way_of(proxy_at(server)), grant("ok.test", 443, NOWHERE, NOWHERE + 1)))
        assert isinstance(outcome, Dialled)
        assert (outcome.address, outcome.relayed) == (NOWHERE + 1, True)


def test_a_variable_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch, target: socket.socket) -> None:
    """Processes that are started later do not inherit it, and it is still known."""
    monkeypatch.setenv("P", PASSWORD)
    with server_to(target, signed_in=True) as server:
        way = way_of(proxy_at(server, user=USER, password=EnvSource("P")))
        way.check()
        assert "P" not in os.environ
        for _ in range(2):
            assert isinstance(asyncio.run(dialled(way, grant())), Dialled)
        assert way.known() == (Secret("upstream.proxy.password", PASSWORD),)
        assert PASSWORD not in repr(way)


def test_a_variable_may_be_a_secret_s_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever takes it out of the environment first, the other has it."""
    monkeypatch.setenv("SHARED", PASSWORD)
    path = tmp_path / "egress.yaml"
    path.write_text("upstream: {proxy: {url: 'http://127.0.0.1:1', user: me, password: {env: SHARED}}}\n")
    config = load_server_config(path, ServerOverrides(state_dir=tmp_path), {})
    take_password(config)
    assert os.environ.pop("SHARED") == PASSWORD
    check_way(config)


@pytest.mark.parametrize(
    ("source", "port", "said"),
    [
        (EnvSource("NOT_SET"), 3128, "variable `NOT_SET` is not set"),
        (EnvSource("BAD"), 3128, "holds a line break"),
        (FileSource, 3128, "cannot open file"),
        (StoreSource("corp"), 3129, "is bound to other hosts than `127.0.0.1`"),
    ],
)
def test_a_password_that_cannot_be_used_is_found_at_the_start(
    source: object, port: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is told without its value."""
    monkeypatch.setenv("BAD", "canary\r\nX: y")
    leaf = FileSource(tmp_path / "none") if source is FileSource else source
    proxy = UpstreamProxy(ProxyAddress(ProxyScheme.HTTP, LOCAL, port), USER, leaf)  # type: ignore[arg-type]
    with pytest.raises(EgressError, match=said) as caught:
        way_of(proxy).check()
    assert "canary" not in str(caught.value)


def test_a_stored_password_goes_to_the_proxy_that_it_is_bound_to() -> None:
    """INVARIANT secret-confinement."""
    proxy = UpstreamProxy(ProxyAddress(ProxyScheme.HTTP, LOCAL, 3128), USER, StoreSource("corp"))
    assert ProxyPassword(proxy, stored).read().reveal() == PASSWORD  # type: ignore[arg-type]


def test_the_proxy_s_name_is_resolved_by_us_and_its_addresses_are_no_destinations(target: socket.socket) -> None:
    """At its port; whatever family the address is spelt in."""
    with server_to(target) as server:
        names = Names({"proxy.test": ["127.0.0.1"]})
        proxy = replace(proxy_at(server), address=ProxyAddress(ProxyScheme.HTTP, Host("proxy.test"), server.port))
        way = way_of(proxy, names)
        assert isinstance(asyncio.run(dialled(way, grant())), Dialled)
        assert names.asked == ["proxy.test"]
        for address, port, ours in (
            ("127.0.0.1", server.port, True),
            ("::ffff:127.0.0.1", server.port, True),
            ("127.0.0.1", server.port - 1, False),
            ("127.0.0.2", server.port, False),
        ):
            assert way.own.includes(ip_address(address), port) is ours
        outcome = asyncio.run(dialled(way, grant("proxy.test", server.port, ip_address("203.0.113.1"))))
        assert outcome == DialFailure("the destination is the upstream proxy itself")
        assert server.clients == 1


def test_a_proxy_whose_name_does_not_resolve_is_a_failure() -> None:
    """And nothing is dialled in its place."""
    proxy = UpstreamProxy(ProxyAddress(ProxyScheme.HTTP, Host("proxy.test"), 3128))
    assert asyncio.run(dialled(way_of(proxy), grant())) == DialFailure("the upstream proxy's name does not resolve")


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "A.test", "fe80::1%eth0", ""])
def test_a_grant_whose_host_cannot_be_said_goes_nowhere(host: str, target: socket.socket) -> None:
    """It is never made; were it, nothing would be asked."""
    from egress.config import ConnectBy

    with server_to(target) as server:
        outcome = asyncio.run(dialled(way_of(proxy_at(server, connect=ConnectBy.NAME)), grant(host)))
        assert isinstance(outcome, DialFailure)
        assert server.asked == []


def test_what_a_proxy_knows_of_addresses_is_bounded() -> None:
    """INVARIANT bounded: also where its name has another address each time."""
    own = OwnListeners()
    for number in range(1_000):
        own.learn_upstream(NOWHERE + number, 3128)
    assert len(own.upstream) <= 256
    assert own.includes(NOWHERE + 999, 3128)


def test_the_proxy_s_own_requests_go_through_it(target: socket.socket, tmp_path: Path) -> None:
    """To checked addresses; what does not resolve is not asked for by name."""
    with server_to(target) as server:
        names = Names({"login.test": [str(NOWHERE)]})
        calls = OwnCalls(tmp_path / "roots.pem", names, 2, 2, way_of(proxy_at(server)))

        async def work(host: str) -> bool:
            sock = await calls._through(host, 443)
            if sock is not None:
                sock.close()
            return sock is not None

        assert asyncio.run(work("login.test"))
        assert not asyncio.run(work("gone.test"))
        assert not asyncio.run(work("a b"))
        assert asyncio.run(work("198.51.100.9"))
        assert server.asked == [(str(NOWHERE), 443), ("198.51.100.9", 443)]


@pytest.mark.parametrize("talks", [False, True])
def test_a_proxy_that_takes_nothing_more_is_left_with_the_lane(
    talks: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INVARIANT bounded: a destination that never reads would else keep a relay for each connection that ended."""
    over = threading.Event()

    def takes_nothing(server: UpstreamServer, client: socket.socket) -> None:
        ask_head(server, client)
        client.sendall(OK)
        while talks:
            client.sendall(bytes(65_536))
        over.wait(20)

    monkeypatch.setattr(proxy_tls, "_LAST_SECONDS", 0.2)
    monkeypatch.setattr(tls_stream, "_LAST_SECONDS", 0.2)
    roots = TestAuthority(tmp_path)
    with UpstreamServer(takes_nothing, tls=roots.server_context("127.0.0.1")) as server:
        way = way_of(UpstreamProxy(ProxyAddress(ProxyScheme.HTTPS, LOCAL, server.port)))
        way.roots = roots.ca_file

        async def work() -> None:
            outcome = await way.dial(grant(), timeout_seconds=5)
            assert isinstance(outcome, Dialled)
            with outcome.sock as sock:
                await fill(sock)
            async with asyncio.timeout(5):
                await asyncio.gather(*way._relays)
            if talks:
                await asyncio.to_thread(wait_until, lambda: not server.open, "the end of the proxy's part")

        try:
            asyncio.run(work())
        finally:
            over.set()
            wait_until(lambda: not server.open, "the end of the proxy's part")


async def fill(sock: socket.socket) -> None:
    """Send until nothing more is taken."""
    refused = 0
    while refused < 10:
        try:
            sock.send(bytes(65_536))
            refused = 0
        except BlockingIOError:
            refused += 1
            await asyncio.sleep(0.02)


LARGE = 16 << 20


def speaks_before_it_listens(server: UpstreamServer, client: socket.socket) -> None:
    """Says yes and a lot more before it reads on."""
    ask_head(server, client)
    client.sendall(OK + bytes(LARGE))
    left = LARGE
    while left:
        left -= len(client.recv(1 << 16))


def test_a_proxy_that_does_not_listen_yet_is_heard(tmp_path: Path) -> None:
    """A server that answers as it is asked may stop reading until its answer is taken: each way is its own."""
    roots = TestAuthority(tmp_path)
    with UpstreamServer(speaks_before_it_listens, tls=roots.server_context("127.0.0.1")) as server:
        way = way_of(UpstreamProxy(ProxyAddress(ProxyScheme.HTTPS, LOCAL, server.port)))
        way.roots = roots.ca_file

        async def work() -> None:
            outcome = await way.dial(replace(grant(), raw=True), timeout_seconds=5)
            assert isinstance(outcome, Dialled)
            loop = asyncio.get_running_loop()
            with outcome.sock as sock:
                async with asyncio.timeout(10):
                    sending = asyncio.ensure_future(loop.sock_sendall(sock, bytes(LARGE)))
                    left = LARGE
                    while left:
                        left -= len(await loop.sock_recv(sock, 1 << 20))
                    await sending
            await asyncio.gather(*way._relays)

        asyncio.run(work())

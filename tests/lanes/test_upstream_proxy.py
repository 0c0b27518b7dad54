"""The way out through an upstream proxy: every lane takes it, for what was judged, and for nothing else.

The names of the site have an address that leads nowhere: whatever reaches the origin came through the proxy.
"""

from __future__ import annotations

import dataclasses
import ssl
import time
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, RAW, TUNNELLED, Mode, Site, carried
from rig.modes import policy as site_policy
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of
from rig.upstream_proxies import (
    PASSWORD,
    USER,
    UpstreamServer,
    ask_head,
    greet_socks,
    read_socks,
    saying,
    speak_http,
    speak_socks,
)
from rig.websocket import echo, frame, handshake, receive_frame
from rig.websocket import policy as socket_policy

from egress.config import ConnectBy, EnvSource, ProxyAddress, ProxyScheme, UpstreamProxy
from egress.policy import Host, parse_target

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from harness.authority import TestAuthority
    from harness.origins import Origins, Stream
    from rig.proxy import Proxy
    from rig.upstream_proxies import Behaviour
    from rig.wire import Wire

NOWHERE = "198.51.100.7"
RANGE = "addresses: [198.51.100.0/24, 2001:db8::/32]"
LOCAL = Host("127.0.0.1", ip_address("127.0.0.1"))
MODES = (Mode.PLAIN, Mode.TLS1, Mode.TLS2, Mode.TUNNEL, Mode.TCP)
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Kit:
    """Starts upstream proxies, and sites behind them."""

    def __init__(self, start: Callable[..., Proxy], origin: Origins, roots: TestAuthority) -> None:
        self.start, self.origin, self.roots = start, origin, roots
        self.stack = ExitStack()

    def server(self, scheme: ProxyScheme, behave: Behaviour | None = None, **more: object) -> UpstreamServer:
        """An upstream proxy that leads to the origin."""
        usual = speak_socks if scheme is ProxyScheme.SOCKS5 else speak_http
        tls = self.roots.server_context("127.0.0.1") if scheme is ProxyScheme.HTTPS else None
        target = ("127.0.0.1", port_of(self.origin))
        server = UpstreamServer(behave or usual, target, tls, **more)  # type: ignore[arg-type]
        return self.stack.enter_context(server)

    def site(
        self, scheme: ProxyScheme, server: UpstreamServer, *, address: str = NOWHERE, text: str = "", **more: object
    ) -> Site:
        """A site whose way out is the server."""
        port = port_of(self.origin)
        proxy = UpstreamProxy(ProxyAddress(scheme, LOCAL, server.port), **more)  # type: ignore[arg-type]
        pins = {name: (ip_address(address),) for name in (HOST, TUNNELLED, RAW)}
        policy = (text or site_policy(port)).replace(LOOPBACK, RANGE)
        return Site(self.start(policy, pins=pins, env={"CANARY": SECRET}, upstream_proxy=proxy), self.origin, port)


@pytest.fixture
def kit(start: Callable[..., Proxy], origin: Origins, roots: TestAuthority) -> Iterator[Kit]:
    """Upstream proxies, closed at the end."""
    made = Kit(start, origin, roots)
    with made.stack:
        yield made


def received(wire: Wire, size: int) -> bytes:
    """So many bytes, or as many as came before the end."""
    got = bytearray()
    while len(got) < size and (more := wire.carrier.recv(1 << 16)):
        got += more
    return bytes(got)


@carried("mode, scheme", *((mode, scheme) for scheme in ProxyScheme for mode in MODES))
def test_every_lane_goes_through_the_proxy_to_the_checked_address(mode: Mode, scheme: ProxyScheme, kit: Kit) -> None:
    """It is asked once, for the address that was judged; the row has that address, and says which way it went."""
    server = kit.server(scheme)
    site = kit.site(scheme, server)
    with site.serving(mode):
        assert site.exchange(mode).status == 200
    assert server.asked == [(NOWHERE, site.port)]
    row, outcome = site.proxy.ledger.only()
    assert (row.address, outcome.error) == (NOWHERE, None)
    assert (row.detail or "").endswith(f"By way of `{scheme.value}://127.0.0.1:{server.port}`.")
    if mode in {Mode.TLS1, Mode.TLS2}:
        assert SECRET.encode() in site.received
        assert SECRET.encode() not in bytes(server.tunnelled)


@carried("mode, scheme", *((mode, scheme) for scheme in ProxyScheme for mode in (Mode.PLAIN, Mode.TLS1, Mode.TUNNEL)))
def test_by_name_the_proxy_is_asked_for_the_judged_name(mode: Mode, scheme: ProxyScheme, kit: Kit) -> None:
    """The name was resolved and judged here all the same."""
    server = kit.server(scheme)
    site = kit.site(scheme, server, connect=ConnectBy.NAME)
    with site.serving(mode):
        assert site.exchange(mode).status == 200
    assert server.asked == [(TUNNELLED if mode is Mode.TUNNEL else HOST, site.port)]
    assert site.proxy.ledger.only()[0].address == NOWHERE


@pytest.mark.parametrize("connect", ConnectBy)
def test_an_address_that_is_not_permitted_is_never_asked_for(connect: ConnectBy, kit: Kit) -> None:
    """Private by default, whoever would dial: also where the proxy is given the name."""
    server = kit.server(ProxyScheme.HTTP)
    site = kit.site(ProxyScheme.HTTP, server, address="10.1.2.3", connect=connect)
    for mode in (Mode.PLAIN, Mode.TLS1, Mode.TUNNEL):
        assert site.exchange(mode).status != 200
    assert (server.clients, server.asked) == (0, [])


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_ipv6_is_asked_for_as_an_address(scheme: ProxyScheme, kit: Kit) -> None:
    """In brackets in HTTP, as sixteen bytes in SOCKS."""
    server = kit.server(scheme)
    site = kit.site(scheme, server, address="2001:db8::7")
    assert site.exchange(Mode.PLAIN).status == 200
    ((host, _),) = server.asked
    assert host == ("2001:db8::7" if scheme is ProxyScheme.SOCKS5 else "[2001:db8::7]")


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_requests_of_one_client_share_the_proxied_connection(scheme: ProxyScheme, kit: Kit) -> None:
    """Kept as any other: one CONNECT serves them all."""
    server = kit.server(scheme)
    site = kit.site(scheme, server)
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        for _ in range(3):
            wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
            assert wire.reply().status == 200
    assert server.clients == len(server.asked) == 1
    assert [row.address for row in site.proxy.ledger.wait(3)] == [NOWHERE] * 3


def test_a_connection_of_one_name_carries_no_other_s(kit: Kit) -> None:
    """Both lead to the same proxy; what they are kept under is where they end."""
    server = kit.server(ProxyScheme.HTTP)
    port = port_of(kit.origin)
    text = f"""
version: 1
rules:
  - {{allow: ["{HOST}:{port}", "{RAW}:{port}"], protocol: http, {LOOPBACK}}}
"""
    site = kit.site(ProxyScheme.HTTP, server, text=text, connect=ConnectBy.NAME)
    for name in (HOST, RAW, HOST, RAW):
        assert site.proxy.ask(name, port).status == 200
    assert {host for host, _ in server.asked} == {HOST, RAW}
    for record in site.origin.connections:
        assert len({head.values(b"host")[0] for head in record.requests}) == 1


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_a_websocket_goes_through_the_proxy(scheme: ProxyScheme, kit: Kit) -> None:
    """Handshake and messages both ways."""
    server = kit.server(scheme)
    site = kit.site(scheme, server, text=socket_policy(port_of(kit.origin)))
    with site.origin.behaving(echo), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(handshake(site))
        assert wire.reply("CONNECT").status == 101
        for text in (b"hello", b"again"):
            wire.send(frame(text))
            assert receive_frame(wire) == text
        wire.send(frame(b"\x03\xe8", 8))
        receive_frame(wire)
    assert server.asked == [(NOWHERE, site.port)]


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_much_passes_in_both_directions(scheme: ProxyScheme, kit: Kit) -> None:
    """More than any buffer on the way holds, to the last byte."""
    size = 3_000_000

    def mirror(stream: Stream) -> None:
        got = b""
        while len(got) < size:
            got += stream.receive()
        stream.send(got)

    server = kit.server(scheme)
    site = kit.site(scheme, server)
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    with site.origin.behaving(mirror):
        wire, reply = site.proxy.tunnel(RAW, site.port)
        with wire:
            assert reply.status == 200
            wire.send(body)
            assert received(wire, size) == body


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_a_server_that_speaks_first_is_heard(scheme: ProxyScheme, kit: Kit) -> None:
    """In raw TCP the first words may come in one segment with the proxy's answer; they are the client's."""

    def banner(server: UpstreamServer, client: socket.socket) -> None:
        if scheme is ProxyScheme.SOCKS5:
            greet_socks(server, client)
            read_socks(server, client)
            client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34" + b"220 hello\r\n")
        else:
            ask_head(server, client)
            client.sendall(OK + b"220 hello\r\n")
        client.recv(1)

    site = kit.site(scheme, kit.server(scheme, banner))
    with site.proxy.connect() as wire:
        wire.send(f"CONNECT {RAW}:{site.port} HTTP/1.1\r\nHost: {RAW}:{site.port}\r\n\r\n".encode())
        got = b""
        while not got.endswith(b"220 hello\r\n"):
            more = wire.carrier.recv(64)
            assert more, got
            got += more
    assert got.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("scheme", [ProxyScheme.HTTP, ProxyScheme.SOCKS5])
def test_an_end_of_sending_passes_while_the_answer_still_comes(scheme: ProxyScheme, kit: Kit) -> None:
    """The client says no more; the server reads to the end, and answers."""

    def at_end(stream: Stream) -> None:
        while stream.receive():
            pass
        stream.send(b"whole")

    site = kit.site(scheme, kit.server(scheme))
    with site.origin.behaving(at_end):
        wire, _ = site.proxy.tunnel(RAW, site.port)
        with wire:
            wire.send(b"all of it")
            wire.carrier.shutdown(1)
            assert received(wire, 5) == b"whole"


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_the_proxy_s_connections_end_with_their_clients(scheme: ProxyScheme, kit: Kit) -> None:
    """Nothing is left open at the proxy, whichever side ended it."""
    server = kit.server(scheme)
    site = kit.site(scheme, server)
    for mode in (Mode.TUNNEL, Mode.TCP):
        with site.serving(mode):
            assert site.exchange(mode).status == 200
    site.proxy.until(lambda: server.open == 0, "the end of the tunnels")
    site.proxy.ledger.wait(2)


# signing in


@contextmanager
def password(monkeypatch: pytest.MonkeyPatch, value: str) -> Iterator[dict[str, object]]:
    """The keys of a proxy that is signed in to."""
    monkeypatch.setenv("PROXY_PASSWORD", value)
    yield {"user": USER, "password": EnvSource("PROXY_PASSWORD")}


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_we_sign_in(scheme: ProxyScheme, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """With user and password; the origin sees neither."""
    server = kit.server(scheme, signed_in=True)
    with password(monkeypatch, PASSWORD) as keys:
        site = kit.site(scheme, server, **keys)
        for mode in (Mode.PLAIN, Mode.TLS1, Mode.TUNNEL):
            assert site.exchange(mode).status == 200
    assert PASSWORD.encode() not in site.received
    assert b"proxy-authorization" not in site.received.lower()


@pytest.mark.parametrize("given", [None, "wrong-password-000"])
@pytest.mark.parametrize("scheme", ProxyScheme)
def test_who_may_not_sign_in_is_told_so(
    scheme: ProxyScheme,
    given: str | None,
    kit: Kit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One try, a clear row, no byte of the request anywhere, and the password nowhere."""
    server = kit.server(scheme, signed_in=True)
    with password(monkeypatch, given or "") as keys:
        site = kit.site(scheme, server, **(keys if given else {}))
        reply = site.exchange(Mode.TLS1)
    assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    row, outcome = site.proxy.ledger.only()
    assert (outcome.error or "").startswith("upstream-unreachable: the upstream proxy did not accept who we are")
    assert (server.clients, site.received) == (1, b"")
    if given:
        for text in (caplog.text, repr(row), repr(outcome), reply.whole.decode("latin-1")):
            assert given not in text


# what a broken or hostile proxy says

FAULTS: dict[str, tuple[bytes, str]] = {
    "refused": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refused the connection (status 403)"),
    "unreachable": (b"HTTP/1.1 502 canary-text\r\n\r\n", "refused the connection (status 502)"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: https://login.test/\r\n\r\n", "(status 302)"),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\n", "(status 100)"),
    "switching": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "(status 101)"),
    "no http": (b"SSH-2.0-canary-text\r\n", "gave no answer that can be read"),
    "bare line feeds": (b"HTTP/1.1 200 OK\n\n", "gave no answer that can be read"),
    "nothing": (b"", "closed the connection"),
    "half a line": (b"HTTP/1.1 2", "closed the connection"),
    "no end": (b"HTTP/1.1 200 OK\r\nA: b\r\n", "closed the connection"),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 9_000, "gave no answer that can be read"),
    "endless fields": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60, "gave no answer that can be read"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "gave no answer"),
    "more than an answer": (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary", "more than its answer"),
}


@pytest.mark.parametrize("fault", FAULTS)
@carried("mode", (Mode.TLS1,), (Mode.TUNNEL,))
def test_an_answer_that_opens_no_tunnel_is_a_failure(mode: Mode, fault: str, kit: Kit) -> None:
    """The row says which; no word of the proxy's reaches the client, no byte of the request the proxy."""
    answer, told = FAULTS[fault]
    server = kit.server(ProxyScheme.HTTP, saying(answer))
    site = kit.site(ProxyScheme.HTTP, server)
    reply = site.exchange(mode)
    assert b"canary" not in reply.whole
    if mode is not Mode.TUNNEL:
        assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    outcome = site.proxy.ledger.only()[1]
    assert (outcome.error or "").startswith("upstream-unreachable: the upstream proxy ")
    assert told in (outcome.error or "")
    assert "canary" not in (outcome.error or "")


SOCKS_FAULTS: dict[str, tuple[bytes, bytes, str]] = {
    "no method": (b"\x05\xff", b"", "did not accept who we are"),
    "another method": (b"\x05\x01", b"", "gave no answer that can be read"),
    "sign-in unasked": (b"\x05\x02", b"", "gave no answer that can be read"),
    "socks4": (b"\x00\x5a", b"", "does not speak SOCKS5"),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", "does not speak SOCKS5"),
    "closed": (b"", b"", "closed the connection"),
    "half a method": (b"\x05", b"", "closed the connection"),
    "not allowed": (b"\x05\x00", b"\x05\x02\x00\x01\0\0\0\0\0\0", "refused the connection (not allowed by its rules)"),
    "short refusal": (b"\x05\x00", b"\x05\x05", "refused the connection (connection refused)"),
    "odd code": (b"\x05\x00", b"\x05\x7f", "refused the connection (code 127)"),
    "odd version": (b"\x05\x00", b"\x04\x00\x00\x01\0\0\0\0\0\0", "does not speak SOCKS5"),
    "odd reserved": (b"\x05\x00", b"\x05\x00\x01\x01\0\0\0\0\0\0", "must be zero"),
    "odd address": (b"\x05\x00", b"\x05\x00\x00\x02\0\0\0\0\0\0", "kind of address"),
    "half an answer": (b"\x05\x00", b"\x05\x00\x00\x01\0\0", "closed the connection"),
    "more than an answer": (b"\x05\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0canary", "more than its answer"),
}


@pytest.mark.parametrize("fault", SOCKS_FAULTS)
def test_a_socks_answer_that_opens_no_tunnel_is_a_failure(fault: str, kit: Kit) -> None:
    """As for HTTP."""
    first, second, told = SOCKS_FAULTS[fault]

    def behave(server: UpstreamServer, client: socket.socket) -> None:
        assert client.recv(3) == b"\x05\x01\x00"
        client.sendall(first)
        if second:
            read_socks(server, client)
            client.sendall(second)

    site = kit.site(ProxyScheme.SOCKS5, kit.server(ProxyScheme.SOCKS5, behave))
    reply = site.exchange(Mode.PLAIN)
    assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    assert told in (site.proxy.ledger.only()[1].error or "")


@pytest.mark.parametrize("scheme", ProxyScheme)
def test_a_proxy_that_hangs_is_given_up(scheme: ProxyScheme, kit: Kit) -> None:
    """In the time of connecting, TLS and sign-in included; nothing is left open."""

    def hang(_: UpstreamServer, client: socket.socket) -> None:
        while client.recv(4096):
            pass

    server = kit.server(scheme, hang)
    if scheme is ProxyScheme.HTTPS:
        server.tls = None
    site = kit.site(scheme, server)
    reply = site.exchange(Mode.PLAIN)
    assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    site.proxy.until(lambda: server.open == 0, "the end of the connection")


def test_a_proxy_that_trickles_is_given_up(kit: Kit) -> None:
    """A byte now and then does not move the deadline."""

    def trickle(server: UpstreamServer, client: socket.socket) -> None:
        ask_head(server, client)
        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(200):
            client.sendall(b"y")
            time.sleep(0.05)

    site = kit.site(ProxyScheme.HTTP, kit.server(ProxyScheme.HTTP, trickle))
    assert site.exchange(Mode.PLAIN).reason == "upstream-unreachable"
    assert "in time" in (site.proxy.ledger.only()[1].error or "")


def test_an_answer_in_single_bytes_is_read(kit: Kit) -> None:
    """However the network cuts it up."""

    def slow(server: UpstreamServer, client: socket.socket) -> None:
        ask_head(server, client)
        for byte in OK[:-1]:
            client.sendall(bytes([byte]))
        server.through(client, OK[-1:])

    site = kit.site(ProxyScheme.HTTP, kit.server(ProxyScheme.HTTP, slow))
    assert site.exchange(Mode.PLAIN).status == 200


def test_a_proxy_that_is_gone_is_no_reason_to_go_around_it(kit: Kit) -> None:
    """INVARIANT fail-closed: the origin itself is never dialled."""
    server = kit.server(ProxyScheme.HTTP)
    site = kit.site(ProxyScheme.HTTP, server)
    server.__exit__()
    assert site.exchange(Mode.PLAIN).reason == "upstream-unreachable"
    assert "the upstream proxy cannot be reached: the connection failed" in (site.proxy.ledger.only()[1].error or "")


@pytest.mark.parametrize("fault", ["expired", "self-signed", "wrong-name"])
def test_an_https_proxy_that_does_not_verify_is_told_nothing(
    fault: str, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No destination, no password."""
    server = kit.server(ProxyScheme.HTTPS)
    name = "other.test" if fault == "wrong-name" else "127.0.0.1"
    server.tls = kit.roots.server_context(name, fault="" if fault == "wrong-name" else fault)
    with password(monkeypatch, PASSWORD) as keys:
        site = kit.site(ProxyScheme.HTTPS, server, **keys)
        assert site.exchange(Mode.PLAIN).reason == "upstream-unreachable"
    assert "certificate is not trusted" in (site.proxy.ledger.only()[1].error or "")
    assert server.said == []


def test_the_proxy_s_own_roots_are_not_those_of_servers(kit: Kit, roots: TestAuthority) -> None:
    """`ca` of the proxy verifies it, and nobody behind it."""
    from harness.authority import TestAuthority as Authority

    other = Authority(roots.folder / "other")
    server = kit.server(ProxyScheme.HTTPS)
    server.tls = other.server_context("127.0.0.1")
    assert kit.site(ProxyScheme.HTTPS, server).exchange(Mode.PLAIN).reason == "upstream-unreachable"
    site = kit.site(ProxyScheme.HTTPS, server, ca=(other.ca_file,))
    assert site.exchange(Mode.PLAIN).status == 200
    context = other.server_context(HOST)
    assert isinstance(context, ssl.SSLContext)
    site.origin._authority, kept = other, site.origin._authority
    try:
        assert site.exchange(Mode.TLS1).reason == "upstream-tls"
    finally:
        site.origin._authority = kept


# what does not go through it


@pytest.mark.parametrize("written", [HOST, ".ok.test", "203.0.113.9", "198.51.100.0/24"])
def test_what_is_excepted_is_dialled(written: str, kit: Kit) -> None:
    """By name or by checked address; what is not, is not."""
    server = kit.server(ProxyScheme.HTTP)
    target = parse_target(written)
    site = kit.site(ProxyScheme.HTTP, server, direct=(target,))
    excepted = written != "203.0.113.9"
    reply = site.exchange(Mode.PLAIN)
    assert (reply.status == 200) is not excepted
    assert (server.clients == 0) is excepted
    assert ("By way of" in (site.proxy.ledger.only()[0].detail or "")) is not excepted


@pytest.mark.parametrize("connect", ConnectBy)
def test_this_machine_s_addresses_never_go_through_it(connect: ConnectBy, kit: Kit) -> None:
    """A rule that names 127.0.0.0/8 means this machine, not the proxy's; likewise metadata addresses."""
    server = kit.server(ProxyScheme.HTTP)
    port = port_of(kit.origin)
    text = site_policy(port).replace(LOOPBACK, "addresses: [127.0.0.0/8 ]")
    site = kit.site(ProxyScheme.HTTP, server, address="127.0.0.1", text=text, connect=connect)
    assert site.exchange(Mode.PLAIN).status == 200
    assert server.clients == 0


@pytest.mark.parametrize("scheme", ProxyScheme)
@pytest.mark.parametrize("connect", ConnectBy)
def test_the_proxy_itself_is_no_destination(scheme: ProxyScheme, connect: ConnectBy, kit: Kit) -> None:
    """Whatever a rule says: who could speak to it could have it connect to anything."""
    server = kit.server(scheme)
    text = f"version: 1\nrules: [{{allow: '{HOST}:{server.port}', protocol: [http, tcp], {LOOPBACK}}}]\n"
    text = text.replace(LOOPBACK, "addresses: [127.0.0.0/8 ]")
    site = kit.site(scheme, server, address="127.0.0.1", text=text, connect=connect)
    first = site.proxy.ask(HOST, server.port)
    assert (first.status, first.reason) == (502, "upstream-unreachable")
    assert "the upstream proxy itself" in first.problem["detail"]
    # Once it is known, the refusal is the gate's.
    second = site.proxy.ask(HOST, server.port)
    assert (second.status, second.reason) == (403, "address-is-proxy")
    assert server.clients == 0


def test_a_proxy_that_is_this_proxy_is_refused(kit: Kit) -> None:
    """It would ask itself, and itself again."""
    server = kit.server(ProxyScheme.HTTP)
    site = kit.site(ProxyScheme.HTTP, server)
    way = site.proxy.gate.way
    assert way is not None
    way.proxy = dataclasses.replace(way.proxy, address=ProxyAddress(ProxyScheme.HTTP, LOCAL, site.proxy.address[1]))
    if site.proxy.carrier is Carrier.FRONT:
        site.proxy.gate.own.ports.add(site.proxy.address[1])
    assert site.exchange(Mode.PLAIN).reason == "upstream-unreachable"
    assert "this proxy itself" in (site.proxy.ledger.only()[1].error or "")

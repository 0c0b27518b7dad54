"""Clients of a unix socket, in all lanes: carried like those of TCP, and told apart by their user alone."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.ledger import wait_until
from rig.modes import HOST, Mode, Site, carried, make_site
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of
from rig.wire import Wire, trusting

from egress.config import Limits, SandboxDefinition, UnixListener
from egress.policy import Sandbox
from egress.proxy import peeking
from egress.proxy.limits import OwnClientSlots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy

ME = os.geteuid()
PEER = f"unix:uid={ME}"
QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.5, tls_seconds=0.5)


@pytest.fixture
def listener(tmp_path: Path) -> UnixListener:
    """Where the proxy listens."""
    return UnixListener(str(tmp_path / "proxy.sock"))


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins, listener: UnixListener) -> Site:
    """The usual site, behind a unix socket."""
    return make_site(start, origin, listener=listener)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,), (Mode.TUNNEL,), (Mode.TCP,))
def test_every_mode_passes_over_a_unix_socket(site: Site, mode: Mode, carrier: Carrier) -> None:
    """In its lane, with the user in its row; a secret goes up inside TLS only."""
    with site.serving(mode):
        assert site.exchange(mode).status == 200
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.client, row.sandbox) == ("allow", PEER, "default")
    unopened = mode in {Mode.TUNNEL, Mode.TCP}
    assert row.lane == ("mitm" if carrier is Carrier.MITM else "tunnel" if unopened else "http")
    assert (SECRET.encode() in site.received) == (mode in {Mode.TLS1, Mode.TLS2})


def test_what_no_rule_allows_is_denied_over_a_unix_socket(site: Site) -> None:
    """With its row; nothing is dialled."""
    reply = site.proxy.ask("other.test", site.port)
    assert (reply.status, reply.reason) == (403, "host-not-allowed")
    assert site.proxy.ledger.only()[0].client == PEER
    assert not site.origin.connections


@contextmanager
def large(site: Site, size: int) -> Iterator[None]:
    """An origin that answers with so many bytes."""

    def behave(stream: Stream) -> None:
        while stream.request():
            stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    with site.origin.behaving(behave):
        yield


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TUNNEL,), (Mode.TCP,))
def test_bulk_arrives_whole_over_a_unix_socket(site: Site, mode: Mode) -> None:
    """More than any buffer or pipe holds, spliced or copied."""
    with large(site, 3_000_000):
        assert len(site.exchange(mode).body) == 3_000_000


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments at which the front looked again for the rest of a hello."""
    moments: list[float] = []
    ended = peeking._ended

    def look(sock: socket.socket) -> bool:
        moments.append(time.monotonic())
        return ended(sock)

    monkeypatch.setattr(peeking, "_ended", look)
    return moments


class ByHand:
    """TLS whose records reach the wire as the test sends them."""

    def __init__(self, site: Site, wire: Wire) -> None:
        self.wire = wire
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = trusting(site.proxy.authority.certificate_pem, ("http/1.1",))
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=HOST)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.hello = self.outgoing.read()

    def ask(self, site: Site) -> bytes:
        """The rest of the handshake, and the answer to a request."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._receive()
            else:
                break
        self.tls.write(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        self.wire.send(self.outgoing.read())
        while True:
            try:
                return self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self._receive()

    def _receive(self) -> None:
        if sent := self.outgoing.read():
            self.wire.send(sent)
        data = self.wire.receive()
        assert data, "the proxy hung up"
        self.incoming.write(data)


PAUSE = 0.1


def test_a_hello_in_pieces_is_waited_for_and_never_in_a_busy_loop(site: Site, looks: list[float]) -> None:
    """Poll calls a unix socket readable while a part is there, so it is looked at again, less and less often."""
    with site.serving(Mode.TLS1):
        wire, _ = site.proxy.tunnel(HOST, site.port)
        with wire:
            tls = ByHand(site, wire)
            for start in range(0, len(tls.hello), 100):
                wire.send(tls.hello[start : start + 100])
                time.sleep(PAUSE)
            assert tls.ask(site).startswith(b"HTTP/1.1 200 ")
            pauses = len(tls.hello) // 100 + 1
    assert site.proxy.ledger.only()[0].sni == HOST
    if site.proxy.carrier is Carrier.FRONT:
        # 1, 2, 4, ... 50 ms: seven looks in a pause, and as much room again for a machine that is slow.
        assert pauses <= len(looks) <= 14 * pauses


def test_a_hello_that_never_ends_meets_its_deadline(
    start: Callable[..., Proxy], origin: Origins, listener: UnixListener, looks: list[float]
) -> None:
    """With a row, after a bounded number of looks."""
    site = make_site(start, origin, listener=listener, limits=QUICK)
    wire, _ = site.proxy.tunnel(HOST, site.port)
    with wire:
        wire.send(ByHand(site, wire).hello[:60])
        wire.rest()
    assert site.proxy.ledger.wait(1)[-1].reason == "limit-time"
    assert len(looks) < 100


@pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True, ids=["front"])
def test_who_leaves_in_the_middle_of_a_hello_is_noticed(site: Site) -> None:
    """Long before the deadline; what comes just before the end is still seen."""
    wire, _ = site.proxy.tunnel(HOST, site.port)
    with wire:
        wire.send(ByHand(site, wire).hello[:60])
        wire.carrier.shutdown(socket.SHUT_WR)
        assert wire.rest() == b""
    wait_until(lambda: site.proxy.connections == 0, "the end")
    with site.serving(Mode.TUNNEL):
        wire, _ = site.proxy.tunnel(HOST, site.port)
        with wire:
            hello = ByHand(site, wire).hello
            wire.send(hello[:60])
            time.sleep(PAUSE)
            wire.send(hello[60:]).carrier.shutdown(socket.SHUT_WR)
            assert wire.receive()[:1] == b"\x16"


def open_descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_descriptor_or_a_byte_out_of_band_changes_nothing(site: Site) -> None:
    """Bytes that come with a descriptor end a read of a unix socket; those out of band are the stream's."""
    before = open_descriptors()
    host = f"{HOST}:{site.port}".encode()
    with site.serving(Mode.TLS1):
        for _ in range(5):
            with site.proxy.connect() as wire:
                wire.send(b"CONN")
                socket.send_fds(wire.carrier, [b"ECT " + host], [0, 1, 2])
                wire.carrier.send(b" ", socket.MSG_OOB)
                wire.send(b"HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
                assert wire.reply("CONNECT").status == 200
                with site.proxy.secure(wire, HOST, "http/1.1") as inside:
                    assert inside.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").reply().status == 200
    wait_until(lambda: site.proxy.connections == 0, "the end")
    assert open_descriptors() < before + 10


# who a client is


def sandboxed(start: Callable[..., Proxy], origin: Origins, listener: UnixListener, *own: SandboxDefinition) -> Site:
    """The usual host for all, with these sandboxes."""
    port = port_of(origin)
    text = f'version: 1\nrules:\n  - {{allow: "{HOST}:{port}", protocol: [http, https], {LOOPBACK}}}\n'
    return Site(start(text, HOST, listener=listener, sandboxes=own), origin, port)


@pytest.fixture
def tenants(start: Callable[..., Proxy], origin: Origins, listener: UnixListener) -> Callable[..., Site]:
    """The same, of these fixtures."""
    return partial(sandboxed, start, origin, listener)


def user(name: str, *uids: int, **more: object) -> SandboxDefinition:
    """A sandbox that is told by its user."""
    return SandboxDefinition(Sandbox(name), uids=uids, **more)  # type: ignore[arg-type]


OTHER = UnixListener("/another.sock")
KNOWN: list[tuple[str, str | None, tuple[SandboxDefinition, ...]]] = [
    ("its user", "me", (user("me", ME), user("you", ME + 1))),
    ("one of several users", "me", (user("me", ME + 1, ME),)),
    ("another user", None, (user("you", ME + 1),)),
    ("its user elsewhere", None, (user("me", ME, listener=OTHER),)),
    ("an address", None, (SandboxDefinition(Sandbox("near"), (ip_network("127.0.0.0/8"), ip_network("::/1"))),)),
]


@pytest.mark.parametrize(("name", "own"), [row[1:] for row in KNOWN], ids=[row[0] for row in KNOWN])
@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.TLS1])
def test_a_client_is_the_sandbox_of_its_user_or_nobody(
    tenants: Callable[..., Site], name: str | None, own: tuple[SandboxDefinition, ...], mode: Mode
) -> None:
    """In its row, and by its policy; nobody reaches nothing."""
    site = tenants(*own)
    with site.serving(mode):
        reply = site.exchange(mode)
    row = site.proxy.ledger.wait(1)[0]
    assert row.client == PEER
    if name is None:
        assert (reply.status, reply.reason) == (403, "sandbox-unknown")
        assert (row.verdict, row.reason, row.sandbox) == ("deny", "sandbox-unknown", "unknown")
        assert not site.origin.connections
    else:
        assert (reply.status, row.sandbox) == (200, name)


def test_the_socket_tells_its_clients_and_with_the_user_more_narrowly(
    start: Callable[..., Proxy], origin: Origins, listener: UnixListener
) -> None:
    """As a source does on an address: of two that fit, the one that states more."""
    door = SandboxDefinition(Sandbox("door"), listener=listener)
    inner = user("inner", ME, listener=listener)
    for own, name in (((door,), "door"), ((door, inner), "inner"), ((door, user("me", ME)), "unknown")):
        path = UnixListener(f"{listener.path}.{name}")
        placed = [replace(each, listener=path) if each.listener else each for each in own]
        site = sandboxed(start, origin, path, *placed)
        site.proxy.ask(HOST, site.port)
        assert site.proxy.ledger.only()[0].sandbox == name


def test_a_client_of_tcp_is_no_user(start: Callable[..., Proxy], origin: Origins) -> None:
    """Whatever runs it."""
    port = port_of(origin)
    proxy = start("version: 1\n", HOST, sandboxes=(user("me", ME), user("root", 0, 1, 2)))
    assert proxy.ask(HOST, port).reason == "sandbox-unknown"
    assert proxy.ledger.only()[0].sandbox == "unknown"


@pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True, ids=["front"])
def test_the_connections_of_a_user_have_a_limit(site: Site) -> None:
    """Of its own: there is no address to count by."""
    slots = OwnClientSlots(2)
    site.proxy.front._client_slots = slots.of
    with site.proxy.connect(), site.proxy.connect():
        wait_until(lambda: site.proxy.connections == 2, "two connections")
        with site.proxy.connect() as third:
            assert third.reply().reason == "limit-connections"
    assert set(slots._of) == {PEER}


def test_what_came_over_a_unix_socket_is_cut_by_a_reload(site: Site) -> None:
    """As any other connection whose destination is allowed no more."""
    with site.serving(Mode.TLS1), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        assert wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()).reply().status == 200
        wait_until(lambda: not site.proxy.gate.open, "the end of the request")
        assert site.proxy.reload("version: 1\n") == 1
        assert wire.receive() == b""

"""Forwards, in all lanes: every connection to the listener is judged as one to its destination, or reset."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from rig.inside import NAMES, exchange, is_reset, was_reset
from rig.ledger import wait_until
from rig.modes import HOST, RAW, Mode, Site, carried, make_site
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of

from egress.config import Limits, SandboxDefinition, UnixListener
from egress.policy import Host, Sandbox, parse_host
from egress.proxy.entrance import Entrance, Kind
from egress.proxy.limits import OwnClientSlots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy

QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.5, tls_seconds=0.5)


def to(name: str, port: int) -> Entrance:
    """A listener that leads there."""
    host = parse_host(name)
    assert isinstance(host, Host)
    return Entrance(Kind.FORWARD, destination=(host, port))


def forwarding(start: Callable[..., Proxy], origin: Origins, name: str, **more: object) -> Site:
    """The usual site, behind a forward."""
    return make_site(start, origin, entrance=to(name, port_of(origin)), **more)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,), (Mode.TUNNEL,), (Mode.TCP,))
def test_every_mode_passes_a_forward(
    start: Callable[..., Proxy], origin: Origins, mode: Mode, carrier: Carrier
) -> None:
    """In its lane, under the destination's name; a secret goes up inside TLS only."""
    site = forwarding(start, origin, NAMES.get(mode, HOST))
    with site.serving(mode), site.proxy.connect() as wire:
        assert exchange(site, mode, wire).status == 200
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.host, row.port, row.road) == ("allow", NAMES.get(mode, HOST), site.port, "forward")
    unopened = mode in {Mode.TUNNEL, Mode.TCP}
    handed = carrier is Carrier.MITM and mode is not Mode.TCP
    assert row.lane == ("mitm" if handed else "tunnel" if unopened else "http")
    assert (SECRET.encode() in site.received) == (mode in {Mode.TLS1, Mode.TLS2})


def test_a_server_that_speaks_first_is_heard(start: Callable[..., Proxy], origin: Origins) -> None:
    """Nothing of the client's is waited for where raw TCP is all that may pass."""
    site = forwarding(start, origin, RAW)

    def greet(stream: Stream) -> None:
        stream.send(b"220 ready\r\n")

    with origin.behaving(greet), site.proxy.connect() as wire:
        # The test's server looks at what a client begins with, before it speaks.
        wire.send(b"x")
        assert wire.until(b"\r\n") == b"220 ready\r\n"


@carried("mode", (Mode.PLAIN,))
@pytest.mark.parametrize("cut", [1, 3, 4, 9])
def test_ssh_is_raw_tcp_also_where_http_may_pass(
    start: Callable[..., Proxy], origin: Origins, mode: Mode, carrier: Carrier, cut: int
) -> None:
    """Its greeting begins as a method could; in whatever segments it comes."""
    del mode, carrier
    port = port_of(origin)
    text = f'version: 1\nrules: [{{allow: "{RAW}:{port}", protocol: [tcp, http, https], {LOOPBACK}}}]\n'
    proxy = start(text, RAW, entrance=to(RAW, port))
    greeting = b"SSH-2.0-x\r\n"

    def greet(stream: Stream) -> None:
        stream.send(b"SSH-2.0-y\r\n")

    with origin.behaving(greet), proxy.connect() as wire:
        wire.send(greeting[:cut])
        time.sleep(0.02)
        wire.send(greeting[cut:])
        assert wire.until(b"\r\n") == b"SSH-2.0-y\r\n"
    row = proxy.ledger.only()[0]
    assert (row.verdict, row.protocol) == ("allow", "tcp")


REFUSED = [("a name", "other.test", "host-not-allowed"), ("an address", "192.0.2.1", "address-not-allowed")]


@pytest.mark.parametrize(("name", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_destination_that_is_not_allowed_is_a_reset_at_once(
    start: Callable[..., Proxy], origin: Origins, name: str, reason: str
) -> None:
    """On record; not one byte comes, whatever the client would have spoken."""
    site = forwarding(start, origin, name)
    assert is_reset(site.proxy)
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.reason, row.host, row.port) == ("deny", reason, name, site.port)
    assert not site.origin.connections


def test_a_server_that_cannot_be_reached_is_a_reset(start: Callable[..., Proxy]) -> None:
    """With the outcome in its row."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    rule = f'{{allow: "{RAW}:{port}", protocol: tcp, {LOOPBACK}}}'
    proxy = start(f"version: 1\nrules: [{rule}]\n", RAW, entrance=to(RAW, port))
    assert is_reset(proxy)
    _, outcome = proxy.ledger.only()
    assert (outcome.error or "").startswith("upstream-unreachable")


INSIDE = [
    ("no protocol that is allowed", b"\x00\x01\x02", "protocol-unknown"),
    ("another name in TLS", b"", "name-mismatch"),
]


@pytest.mark.parametrize(("sent", "reason"), [row[1:] for row in INSIDE], ids=[row[0] for row in INSIDE])
def test_what_does_not_fit_the_destination_is_a_reset(
    start: Callable[..., Proxy], origin: Origins, sent: bytes, reason: str
) -> None:
    """A client of a forward has asked no proxy for anything, and gets no words of one."""
    site = forwarding(start, origin, HOST)
    with site.proxy.connect() as wire:
        if sent:
            wire.send(sent)
            assert was_reset(wire)
        else:
            with pytest.raises(ConnectionResetError):
                site.proxy.secure(wire, "other.test", "http/1.1")
    assert site.proxy.ledger.only()[0].reason == reason


def test_a_request_that_is_not_allowed_gets_its_page(start: Callable[..., Proxy], origin: Origins) -> None:
    """HTTP has words for it; also for a request that names somebody else."""
    site = forwarding(start, origin, HOST)
    with site.proxy.connect() as wire:
        page = wire.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply()
        assert (page.status, page.reason) == (403, "name-mismatch")


def test_who_says_nothing_is_refused_in_time(start: Callable[..., Proxy], origin: Origins) -> None:
    """On record, by a reset."""
    site = forwarding(start, origin, HOST, limits=QUICK)
    assert is_reset(site.proxy)
    assert site.proxy.ledger.only()[0].reason == "limit-time"


def test_a_forward_over_a_unix_socket(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """As over TCP."""
    site = forwarding(start, origin, RAW, listener=UnixListener(str(tmp_path / "db.sock")))
    with site.serving(Mode.TCP), site.proxy.connect() as wire:
        assert exchange(site, Mode.TCP, wire).status == 200


def test_a_forward_to_the_proxy_itself_leads_nowhere(start: Callable[..., Proxy]) -> None:
    """It would come back for ever."""
    rule = "{allow: 127.0.0.0/8, ports: [1-65535], protocol: tcp}"
    proxy = start(f"version: 1\nrules: [{rule}]\n", entrance=to("127.0.0.1", 1))
    proxy.front_gate.own.ports.add(1)
    assert is_reset(proxy)
    assert proxy.ledger.only()[0].reason == "address-is-proxy"


SOURCES = [("near", "127.0.0.0/8", "near"), ("far", "192.0.2.0/24", None)]


@pytest.mark.parametrize(("name", "source", "who"), SOURCES, ids=[row[0] for row in SOURCES])
def test_a_client_is_the_sandbox_of_its_place_or_nobody(
    start: Callable[..., Proxy], origin: Origins, name: str, source: str, who: str | None
) -> None:
    """Nothing can be said on this road; nobody gets a reset."""
    own = SandboxDefinition(Sandbox(name), (ip_network(source),))
    site = forwarding(start, origin, RAW, sandboxes=(own,))
    with site.serving(Mode.TCP):
        if who is None:
            assert is_reset(site.proxy)
        else:
            with site.proxy.connect() as wire:
                assert exchange(site, Mode.TCP, wire).status == 200
    row = site.proxy.ledger.only()[0]
    assert (row.sandbox, row.reason) == (who or "unknown", "rule-allow" if who else "sandbox-unknown")


def test_a_connection_without_room_is_a_reset(start: Callable[..., Proxy], origin: Origins) -> None:
    """And not a page in the middle of somebody's protocol."""
    site = forwarding(start, origin, RAW)
    site.proxy.front._client_slots = OwnClientSlots(0).of
    assert is_reset(site.proxy)
    assert site.proxy.ledger.only()[0].reason == "limit-connections"


def test_a_reload_cuts_what_it_denies(start: Callable[..., Proxy], origin: Origins) -> None:
    """A tunnel that a forward opened is no exception."""
    site = forwarding(start, origin, RAW)
    with site.serving(Mode.TCP), site.proxy.connect() as wire:
        assert exchange(site, Mode.TCP, wire).status == 200
        time.sleep(0.05)
        assert site.proxy.reload("version: 1\n") == 1
        assert wire.receive() == b""
    wait_until(lambda: not site.proxy.front.connections, "the end")

"""Connections that another process accepted: carried like those of the lane's own listener, from where they stand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from mitmproxy.proxy.layer import NextLayer
from rig.http2_origin import answer_http2
from rig.modes import HOST, RAW, TUNNELLED, Mode, Site, make_site
from rig.proxy import SECRET
from rig.wire import Http2, Wire, head

from egress.config import Limits
from egress.gate.exchange import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy

CLIENT = Client("agent-7", "198.51.100.7:40007")
QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.4, tls_seconds=0.4)
PING = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


@contextlib.contextmanager
def handed(site: Site, destination: str | None) -> Iterator[Wire]:
    """The client's end of a connection that was handed over, with this destination and the origin's port."""
    proxy = site.proxy
    with socket.create_server(("127.0.0.1", 0)) as listening:
        carrier = socket.create_connection(listening.getsockname(), timeout=10)
        accepted, _ = listening.accept()
    inside = None if destination is None else (destination, site.port)
    taken = asyncio.run_coroutine_threadsafe(proxy.master.take(accepted, CLIENT, inside), proxy._loop)
    with Wire(carrier) as wire:
        yield wire
    taken.result(10)
    assert accepted.fileno() == -1, "the descriptor has two owners"


def named(site: Site) -> bytes:
    """The site as Host writes it."""
    return f"{HOST}:{site.port}".encode()


def test_a_connection_of_which_nothing_was_consumed_is_carried_whole(site: Site) -> None:
    """Plain requests, one after the other; the rows name who asked, and this lane."""
    with site.serving(Mode.PLAIN), handed(site, None) as wire:
        for _ in range(2):
            wire.send(b"GET http://%s/x HTTP/1.1\r\nHost: %s\r\n\r\n" % (named(site), named(site)))
            assert wire.reply().status == 200
    assert {(row.sandbox, row.client, row.lane) for row in site.proxy.ledger.wait(2)} == {
        ("agent-7", "198.51.100.7:40007", "mitm")
    }


def test_a_connection_of_which_nothing_was_consumed_may_ask_for_a_tunnel(site: Site) -> None:
    """CONNECT, TLS and a request, as on the lane's own listener."""
    with site.serving(Mode.TLS1), handed(site, None) as wire:
        wire.send(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (named(site), named(site)))
        assert wire.reply("CONNECT").status == 200
        with site.proxy.secure(wire, HOST, "http/1.1") as secured:
            assert secured.send(PING % named(site)).reply().status == 200
    assert f"Key {SECRET}".encode() in site.received


@pytest.mark.parametrize("offer", [("h2",), ("h2", "http/1.1"), ("http/1.1",), ()])
def test_tls_inside_a_known_tunnel_is_opened(site: Site, offer: tuple[str, ...]) -> None:
    """With each ALPN, two requests on one connection, judged and with the secret in them."""
    mode = Mode.TLS2 if offer[:1] == ("h2",) else Mode.TLS1
    with site.serving(mode), handed(site, HOST) as wire, site.proxy.secure(wire, HOST, *offer) as secured:
        client = Http2(secured) if mode is Mode.TLS2 else None
        for _ in range(2):
            if client is not None:
                assert client.reply(client.request(head(named(site).decode()))).status == 200
            else:
                assert secured.send(PING % named(site)).reply().status == 200
    rows = site.proxy.ledger.wait(2)
    assert {(row.sni, row.verdict, row.lane, row.sandbox) for row in rows} == {(HOST, "allow", "mitm", "agent-7")}
    assert f"Key {SECRET}".encode() in site.received
    assert len(site.origin.connections) == 1


def test_a_request_in_the_clear_inside_a_known_tunnel_is_judged_as_such(site: Site) -> None:
    """No secret leaves without TLS; the path counts from the tunnel's name."""
    with site.serving(Mode.PLAIN), handed(site, HOST) as wire:
        assert wire.send(PING % named(site)).reply().status == 200
    row = site.proxy.ledger.only()[0]
    assert (row.scheme, row.host, row.path, row.rule) == ("http", HOST, "/", "the site in the clear")
    assert SECRET.encode() not in site.received


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n",
        b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
        b"no request\r\n\r\n",
    ],
    ids=["another host", "a whole URL", "a tunnel in the tunnel", "no HTTP"],
)
def test_what_names_another_destination_inside_is_refused(site: Site, request_head: bytes) -> None:
    """One name, inside a tunnel that was handed over too."""
    if b"%s" in request_head:
        request_head %= (named(site), named(site))
    with site.serving(Mode.PLAIN), handed(site, HOST) as wire:
        assert wire.send(request_head).reply().status in {400, 403}
    assert site.proxy.ledger.only()[0].verdict == "deny"
    assert site.origin.connections == []


@pytest.mark.parametrize("name", ["other.test", TUNNELLED])
def test_a_hello_for_another_name_is_refused(site: Site, name: str) -> None:
    """SNI is the destination that was handed over, or the connection ends without a byte of TLS."""
    with site.serving(Mode.TLS1), handed(site, HOST) as wire, pytest.raises((ssl.SSLError, OSError)):
        site.proxy.secure(wire, name, "http/1.1")
    assert site.proxy.ledger.only()[0].reason == "name-mismatch"
    assert site.origin.connections == []


def test_a_tunnel_that_stays_unopened_is_carried(site: Site) -> None:
    """The origin's own certificate, and every byte counted."""
    ca = site.origin._authority.ca_file.read_bytes()
    with (
        site.serving(Mode.TUNNEL),
        handed(site, TUNNELLED) as wire,
        site.proxy.secure(wire, TUNNELLED, "http/1.1", ca=ca) as secured,
    ):
        assert secured.send(PING % TUNNELLED.encode()).reply().status == 200
    row, outcome = site.proxy.ledger.only()
    assert (row.verdict, row.host, row.sni) == ("allow", TUNNELLED, TUNNELLED)
    assert outcome.bytes_up
    assert outcome.bytes_down


def test_raw_tcp_inside_a_known_tunnel_is_carried(site: Site) -> None:
    """Bytes of no protocol that we know, where a rule allows them."""
    with site.origin.behaving(lambda stream: stream.send(b"echo " + stream.receive())), handed(site, RAW) as wire:
        assert wire.send(b"\x00hello").exactly(11) == b"echo \x00hello"
    assert site.proxy.ledger.only()[0].protocol == "tcp"


@contextlib.contextmanager
def asked_for(site: Site, destination: str) -> Iterator[Wire]:
    """The same by a CONNECT of the client's own."""
    wire, reply = site.proxy.tunnel(destination, site.port)
    with wire:
        assert reply.status == 200
        yield wire


@pytest.mark.parametrize("begin", [handed, asked_for])
def test_a_tunnel_that_one_side_has_ended_is_carried_to_its_end(
    begin: Callable[[Site, str], contextlib.AbstractContextManager[Wire]], site: Site
) -> None:
    """A client that has said all may still be answered, however its tunnel began."""

    def count(stream: Stream) -> None:
        size = 0
        while data := stream.receive():
            size += len(data)
        stream.send(b"%d bytes" % size)

    with site.origin.behaving(count), begin(site, RAW) as wire:
        wire.send(b"\x00" * 1000)
        wire.carrier.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"1000 bytes"
    assert site.proxy.ledger.only()[1].error is None


def test_the_layers_of_a_connect_are_left_behind(site: Site) -> None:
    """They would only pass on what comes; a tunnel that was asked for here is as one that was handed over."""
    with site.serving(Mode.TLS1), asked_for(site, HOST) as wire, site.proxy.secure(wire, HOST, "http/1.1") as secured:
        assert secured.send(PING % named(site)).reply().status == 200
        (connection,) = site.proxy.lane.connections.values()
        assert isinstance(connection.handler.layer, NextLayer)


@pytest.mark.parametrize(
    ("destination", "said"), [(None, b""), (None, b"G"), (HOST, b""), (HOST, b"\x16"), (HOST, b"G")]
)
def test_a_client_that_never_speaks_on_is_closed_in_time(
    destination: str | None, said: bytes, start: Callable[..., Proxy], origin: Origins
) -> None:
    """The deadline of a head holds from the hand-over on."""
    site = make_site(start, origin, limits=QUICK)
    with handed(site, destination) as wire:
        wire.send(said)
        wire.rest()
    assert site.proxy.ledger.only()[0].reason == "limit-time"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [("[]", "host-not-allowed"), (f"[{{deny: {HOST}}}]", "rule-deny")],
    ids=["no rule", "a deny"],
)
def test_a_reload_between_the_two_processes_counts(site: Site, rules: str, reason: str) -> None:
    """What the CONNECT was allowed by is gone when its connection arrives: it ends, with a row, before any TLS."""
    site.proxy.reload(f"version: 1\nrules: {rules}\n")
    with handed(site, HOST) as wire:
        wire.send(b"\x16\x03\x01")
        assert wire.rest() == b""
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.host, row.lane, row.client) == (reason, HOST, "mitm", CLIENT.peer)
    assert not site.proxy.lane.connections


def test_a_proxy_that_ends_takes_nothing_over(site: Site) -> None:
    """Draining: refused, on record."""
    site.proxy.gate.draining = True
    with handed(site, HOST) as wire:
        assert wire.rest() == b""
    assert site.proxy.ledger.only()[0].reason == "shutting-down"


def test_a_destination_that_is_no_name_is_refused(site: Site) -> None:
    """Nothing that another process says is believed unread."""
    with handed(site, "127.1") as wire:
        assert wire.rest() == b""
    assert site.proxy.ledger.only()[0].reason == "host-invalid"


def test_connections_that_were_handed_over_count_towards_the_limit(
    start: Callable[..., Proxy], origin: Origins
) -> None:
    """One more than may be is closed, with its row."""
    site = make_site(start, origin, limits=Limits(connections=1))
    with handed(site, HOST):
        site.proxy.until(lambda: bool(site.proxy.lane.connections), "the first")
        with handed(site, HOST) as extra:
            assert extra.rest() == b""
    assert site.proxy.ledger.wait(1)[0].reason == "limit-connections"


def test_a_client_that_is_gone_already_leaves_nothing_behind(site: Site) -> None:
    """It may have closed while it waited in the queue between the processes."""
    for destination in (None, HOST):
        with handed(site, destination) as wire:
            wire.close()
    site.proxy.until(lambda: not site.proxy.lane.connections, "the end")
    assert not site.proxy.master.connections
    assert site.exchange(Mode.PLAIN).status == 200


def test_small_answers_are_not_held_back(site: Site) -> None:
    """Nagle's algorithm is off on what was handed over."""
    with handed(site, HOST):
        site.proxy.until(lambda: bool(site.proxy.lane.connections), "the connection")
        (connection,) = site.proxy.lane.connections.values()
        carried = connection.handler.transports[connection.handler.client].writer.get_extra_info("socket")
        assert carried.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_http2_reload_cuts_what_was_handed_over(site: Site) -> None:
    """A stream under way ends when the new policy denies it."""
    with (
        site.origin.behaving(answer_http2, alpn=("h2",)),
        handed(site, HOST) as wire,
        site.proxy.secure(wire, HOST, "h2") as secured,
    ):
        client = Http2(secured)
        stream = client.request(head(named(site).decode(), "/up", "POST"), b"a", end=False)
        site.proxy.until(lambda: bool(site.received), "the request")
        assert site.proxy.reload("version: 1\nrules: []\n") == 1
        assert client.reply(stream).status == 0
    assert (site.proxy.ledger.only()[1].error or "").startswith("policy-reload")

"""The limits of rules in every lane: who is over gets 429 or is cut, on record, and no byte passes beyond a limit."""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import TYPE_CHECKING

from harness.origins import answer_ok
from rig.bulk import flood
from rig.ledger import wait_until
from rig.modes import HOST, RAW, TUNNELLED, Mode, Site, carried
from rig.proxy import LOOPBACK, port_of
from rig.websocket import echo, frame, handshake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy
    from rig.wire import Wire

INSPECTED = ((Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
TUNNELS = ((Mode.TUNNEL,), (Mode.TCP,))
KB = 1000


def policy(port: int, limits: str) -> str:
    """The site's names, each under the same limits."""
    return f"""
version: 1
rules:
  - {{name: site, allow: "{HOST}:{port}", protocol: [http, https, ws, wss], limits: {limits}, {LOOPBACK}}}
  - {{name: tunnel, allow: "{TUNNELLED}:{port}", tls: tunnel, limits: {limits}, {LOOPBACK}}}
  - {{name: raw, allow: "{RAW}:{port}", protocol: tcp, limits: {limits}, {LOOPBACK}}}
"""


def limited(start: Callable[..., Proxy], origin: Origins, limits: str, **more: object) -> Site:
    """A proxy for an origin, under limits."""
    port = port_of(origin)
    return Site(start(policy(port, limits), HOST, TUNNELLED, RAW, **more), origin, port)


def sink(stream: Stream) -> None:
    """Read whatever comes, and never answer."""
    while stream.receive():
        pass


@contextlib.contextmanager
def opened(site: Site, mode: Mode) -> Iterator[Wire]:
    """A connection on which HTTP/1.1 can be spoken, or raw bytes."""
    match mode:
        case Mode.PLAIN:
            with site.proxy.connect() as wire:
                yield wire
        case Mode.TLS1:
            with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
                yield wire
        case Mode.TUNNEL:
            ca = site.origin._authority.ca_file.read_bytes()
            with site.proxy.inside(TUNNELLED, site.port, "http/1.1", ca=ca) as wire:
                yield wire
        case _:
            wire, reply = site.proxy.tunnel(RAW, site.port)
            with wire:
                assert reply.status == 200
                yield wire


def asked(site: Site, mode: Mode, method: str = "GET", more: str = "") -> bytes:
    """A request's head, for `opened`."""
    where = f"http://{HOST}:{site.port}/x" if mode is Mode.PLAIN else "/x"
    name = {Mode.TUNNEL: TUNNELLED, Mode.TCP: RAW}.get(mode, HOST)
    return f"{method} {where} HTTP/1.1\r\nHost: {name}:{site.port}\r\n{more}\r\n".encode()


@carried("mode", *INSPECTED)
def test_a_request_over_the_rate_gets_429_and_a_row(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """Two pass, the third is refused with the seconds to wait; it is a denial of the rule, and sends nothing."""
    site = limited(start, origin, "{requests: 2/h}")
    with site.serving(mode):
        assert [site.exchange(mode).status for _ in range(2)] == [200, 200]
        seen = len(site.received)
        reply = site.exchange(mode)
    assert (reply.status, reply.reason) == (429, "limit-requests")
    assert 3000 < int(reply.field("retry-after") or "0") <= 3700
    row = site.proxy.ledger.wait(3)[2]
    assert (row.verdict, row.reason, row.rule) == ("deny", "limit-requests", "site")
    assert "`requests`" in (row.detail or "")
    assert len(site.received) == seen


@carried("mode", *TUNNELS)
def test_a_tunnel_counts_as_one_request(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """The one over the rate never reaches its destination."""
    site = limited(start, origin, "{requests: 1/h, burst: 1}")
    with site.serving(mode):
        assert site.exchange(mode).status == 200
        assert site.exchange(mode).status != 200
    rows = site.proxy.ledger.wait(2)
    assert [(row.verdict, row.reason) for row in rows] == [("allow", "rule-allow"), ("deny", "limit-requests")]
    assert len(site.origin.connections) == 1


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TUNNEL,), (Mode.TCP,))
def test_as_many_as_may_are_under_way_at_once(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """One more is refused; once one of them has ended, the next passes."""
    site = limited(start, origin, "{concurrent: 1}")
    release = threading.Event()

    def waits(stream: Stream) -> None:
        stream.request()
        release.wait(8)
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with origin.behaving(waits), opened(site, mode) as first:
        first.send(asked(site, mode))
        wait_until(lambda: bool(site.received), "the request at the origin")
        refused = site.exchange(mode)
        assert refused.status in (429, 0)
        assert refused.field("retry-after") is None
        release.set()
        assert first.reply().status == 200
    wait_until(lambda: len(site.proxy.ledger.outcomes) == 2, "both outcomes")
    with site.serving(mode):
        assert site.exchange(mode).status == 200
    rows = site.proxy.ledger.wait(3)
    assert [row.reason for row in rows] == ["rule-allow", "limit-requests", "rule-allow"]


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), *TUNNELS)
def test_a_download_is_cut_at_its_limit(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """Exactly the limit passes, the outcome says why, and the next request is refused until the window passes."""
    site = limited(start, origin, "{download: 300KB/h}")
    with origin.behaving(flood(4_000_000, [0])), opened(site, mode) as wire:
        wire.send(asked(site, mode))
        with contextlib.suppress(ssl.SSLError, OSError):
            assert len(wire.rest()) < 301 * KB
    row = site.proxy.ledger.decisions[0]
    outcome = site.proxy.ledger.outcome(row)
    assert (outcome.error or "").startswith("limit-bytes")
    assert outcome.bytes_down == 300 * KB
    refused = site.exchange(mode)
    assert refused.status in (429, 0)
    row = site.proxy.ledger.wait(2)[1]
    assert (row.verdict, row.reason) == ("deny", "limit-bytes")
    if mode not in (Mode.TUNNEL, Mode.TCP):
        assert refused.reason == "limit-bytes"
        assert 3000 < int(refused.field("retry-after") or "0") <= 3700


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), *TUNNELS)
def test_an_upload_is_cut_at_its_limit(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """The origin never gets a byte more; a client that is still asking is told 429."""
    site = limited(start, origin, "{upload: 300KB/h}")
    head = asked(site, mode, "POST", "Content-Length: 4000000\r\n")
    with origin.behaving(sink), opened(site, mode) as wire, contextlib.suppress(ssl.SSLError, OSError):
        wire.send(head)
        for _ in range(61):
            wire.carrier.sendall(bytes(65536))
        # Who left before would be cut for that.
        wire.reply("POST")
    row = site.proxy.ledger.decisions[0]
    outcome = site.proxy.ledger.outcome(row)
    assert (outcome.error or "").startswith("limit-bytes")
    assert outcome.bytes_up == 300 * KB
    wait_until(lambda: bool(site.origin.connections), "the origin's record")
    (connection,) = site.origin.connections
    assert len(connection.raw) < 302 * KB + 2000
    assert site.exchange(mode).status in (429, 0)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_a_client_whose_upload_is_cut_reads_why(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """As long as no answer has begun, there is a page to tell it."""
    site = limited(start, origin, "{upload: 100KB/h}")
    head = asked(site, mode, "POST", "Content-Length: 150000\r\n")
    with origin.behaving(sink), opened(site, mode) as wire:
        wire.send(head + bytes(150_000))
        reply = wire.reply("POST")
    assert (reply.status, reply.reason) == (429, "limit-bytes")


@carried("mode", (Mode.TLS2,))
def test_a_stream_of_http2_is_cut_at_its_limit(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """The answer ends early, the outcome says why, and a new stream is refused."""
    site = limited(start, origin, "{download: 1B/h}")
    with site.serving(mode):
        reply = site.exchange(mode)
        row = site.proxy.ledger.decisions[0]
        outcome = site.proxy.ledger.outcome(row)
        assert (outcome.error or "").startswith("limit-bytes")
        assert outcome.bytes_down == 1
        assert reply.status in (0, 200)
        assert site.exchange(mode).status == 429


@carried("mode", (Mode.TLS1,))
def test_a_websocket_is_cut_at_its_limit(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """Messages and pings alike: what is sent counts."""
    site = limited(start, origin, "{upload: 20KB/h}")
    with origin.behaving(echo), opened(site, mode) as wire, contextlib.suppress(ssl.SSLError, OSError):
        wire.send(handshake(site))
        assert wire.reply("CONNECT").status == 101
        for _ in range(400):
            wire.carrier.sendall(frame(b"x" * 100, 9))
        wire.rest()
    row, outcome = site.proxy.ledger.only()
    assert row.protocol == "wss"
    assert outcome.error == "limit-bytes"
    assert site.exchange(mode).status == 429


@carried("mode", *INSPECTED, *TUNNELS)
def test_a_reload_keeps_what_was_spent(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """The same rule, read anew at another line and with a larger limit, goes on counting where it was."""
    site = limited(start, origin, "{requests: 2/day}")
    with site.serving(mode):
        assert site.exchange(mode).status == 200
        site.proxy.reload("# one more line\n" + policy(site.port, "{requests: 2/day}"))
        assert site.exchange(mode).status == 200
        assert site.exchange(mode).status != 200
        site.proxy.reload(policy(site.port, "{requests: 3/day}"))
        assert site.exchange(mode).status == 200
        assert site.exchange(mode).status != 200


@carried("mode", (Mode.PLAIN,))
def test_an_exchange_that_fails_gives_its_place_back(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """A refusal after the limit was asked, an upstream that breaks off: the place is free again."""
    site = limited(start, origin, "{concurrent: 1}")

    def breaks(stream: Stream) -> None:
        stream.request()

    with origin.behaving(breaks):
        assert [site.exchange(mode).status for _ in range(3)] == [502, 502, 502]
    site.proxy.ledger.accepts = lambda _: False
    assert site.exchange(mode).status == 503
    site.proxy.ledger.accepts = lambda _: True
    with origin.behaving(answer_ok):
        assert site.exchange(mode).status == 200

"""Bounded: slow heads, many connections, bodies nobody wants, and clients that do not read."""

from __future__ import annotations

import gc
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rig.bulk import MEGABYTE, flood, pushed, resident
from rig.modes import HOST, Mode, Site, make_site
from rig.proxy import LOOPBACK, port_of

from egress.config import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy

QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.4, tls_seconds=0.4)


# slow


@pytest.mark.parametrize("start_of_head", [b"", b"G", b"GET http://ok.test/ HTTP/1.1\r\nHost: ok"])
def test_a_slow_head_is_closed_in_time(start_of_head: bytes, start: Callable[..., Proxy], origin: Origins) -> None:
    """A connection that says nothing, or never ends its head, is closed within the limit, with a row."""
    site = make_site(start, origin, limits=QUICK)
    started = time.monotonic()
    with site.proxy.connect() as wire:
        wire.send(start_of_head)
        assert wire.rest() == b""
    assert 0.3 < time.monotonic() - started < 8
    assert site.proxy.ledger.wait(1)[0].reason == "limit-time"


def test_a_head_that_drips_is_closed_in_time(start: Callable[..., Proxy], origin: Origins) -> None:
    """Each byte that comes does not start the clock anew."""
    site = make_site(start, origin, limits=QUICK)
    started = time.monotonic()
    with site.proxy.connect() as wire:
        for byte in b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nX: " + b"a" * 100:
            wire.send(bytes([byte]))
            if wire.ended or time.monotonic() - started > 3:
                break
            time.sleep(0.02)
    assert time.monotonic() - started < 8
    assert site.proxy.ledger.wait(1)[0].reason == "limit-time"


@pytest.mark.parametrize("stage", ["connected", "hello", "half-hello", "inside"])
def test_a_tunnel_that_stalls_is_closed_in_time(stage: str, start: Callable[..., Proxy], origin: Origins) -> None:
    """After CONNECT, in the middle of a hello, and after the handshake's start."""
    site = make_site(start, origin, limits=QUICK)
    started = time.monotonic()
    wire, reply = site.proxy.tunnel(HOST, site.port)
    with wire:
        assert reply.status == 200
        match stage:
            case "hello":
                wire.send(b"\x16")
            case "half-hello":
                wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            case "inside":
                wire.send(b"G")
            case _:
                pass
        wire.rest()
    assert time.monotonic() - started < 8
    assert site.proxy.ledger.wait(1)[0].reason == "limit-time"


@pytest.mark.parametrize("said", [b"G", b"S", b"SSH"])
def test_a_head_inside_tls_that_stalls_is_closed_in_time(
    said: bytes, start: Callable[..., Proxy], origin: Origins
) -> None:
    """From its first byte on, also where a protocol that is not carried inside TLS begins alike."""
    site = make_site(start, origin, limits=QUICK)
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        assert wire.send(said).rest() == b""
    assert site.proxy.ledger.wait(1)[0].reason == "limit-time"


def test_an_upstream_that_never_shakes_hands_is_given_up(start: Callable[..., Proxy], origin: Origins) -> None:
    """TLS towards the upstream has its limit; the client reads a page."""
    with socket.create_server(("127.0.0.1", 0), backlog=4) as silent:
        port = silent.getsockname()[1]
        proxy = start(f"version: 1\nrules: [{{allow: '{HOST}:{port}', {LOOPBACK}}}]\n", HOST, limits=QUICK)
        started = time.monotonic()
        reply = Site(proxy, origin, port).exchange(Mode.TLS1)
    assert reply.status == 502
    assert time.monotonic() - started < 8
    assert proxy.ledger.only()[1].error


def test_an_idle_connection_between_requests_is_not_a_slow_head(start: Callable[..., Proxy], origin: Origins) -> None:
    """Keep-alive: a client may wait before its next request longer than a head may take."""
    site = make_site(start, origin, limits=QUICK)
    with site.proxy.connect() as wire:
        request = f"GET http://{HOST}:{site.port}/ HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()
        wire.send(request)
        assert wire.reply().status == 200
        time.sleep(0.7)
        wire.send(request)
        assert wire.reply().status == 200


# many


def test_connections_over_the_limit_are_refused(start: Callable[..., Proxy], origin: Origins) -> None:
    """One more than the limit is closed and recorded; when one of the others ends, there is room again."""
    site = make_site(start, origin, limits=Limits(connections=3))
    held = [site.proxy.connect() for _ in range(3)]
    site.proxy.until(lambda: site.proxy.connections == 3, "three connections")
    with site.proxy.connect() as extra:
        told = extra.rest()
        # Only the front says why: what the mitm lane is handed has its place already.
        assert not told or b"limit-connections" in told
    assert site.proxy.ledger.wait(1)[0].reason == "limit-connections"
    for wire in held:
        wire.close()
    site.proxy.until(lambda: not site.proxy.connections, "room")
    assert site.exchange(Mode.PLAIN).status == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("X", "a" * 60_000)], 200),
        ([("X", "a" * 66_000)], 431),
        ([(f"X{number}", "1") for number in range(98)], 200),
        ([(f"X{number}", "1") for number in range(101)], 431),
    ],
    ids=["60k", "66k", "99-fields", "102-fields"],
)
def test_a_head_is_bounded(
    fields: list[tuple[str, str]], status: int, start: Callable[..., Proxy], origin: Origins
) -> None:
    """64 KB and 100 fields; what is over gets its own page and row."""
    site = make_site(start, origin)
    rows = [f"GET http://{HOST}:{site.port}/ HTTP/1.1", f"Host: {HOST}:{site.port}"]
    rows += [f"{name}: {value}" for name, value in fields]
    with site.proxy.connect() as wire:
        wire.send("\r\n".join([*rows, "", ""]).encode())
        reply = wire.reply()
    assert reply.status == status
    assert reply.reason == ("limit-head" if status == 431 else None)


def test_a_head_that_never_ends_is_refused_before_it_is_held(start: Callable[..., Proxy], origin: Origins) -> None:
    """The limit holds while the head is still arriving: a client that sends 100 MB gets its 431 early."""
    site = make_site(start, origin)
    sent = 0
    with site.proxy.connect() as wire:
        wire.send(f"GET http://{HOST}:{site.port}/ HTTP/1.1\r\n".encode())
        chunk = (b"X-Filler: " + b"a" * 1000 + b"\r\n") * 16
        while sent < 100 * MEGABYTE and not wire.ended:
            wire.send(chunk)
            sent += len(chunk)
    assert sent < 20 * MEGABYTE
    assert site.proxy.ledger.wait(1)[0].reason == "limit-head"


# bodies nobody wants


@pytest.mark.parametrize("chunked", [False, True])
def test_a_denied_upload_is_answered_early_and_not_held(
    *, chunked: bool, start: Callable[..., Proxy], origin: Origins
) -> None:
    """The 403 comes while the client has hardly begun; what it goes on to send is thrown away, then cut."""
    proxy = start(f"version: 1\nrules: [{{allow: '{HOST}:{port_of(origin)}', paths: [/ok], {LOOPBACK}}}]\n", HOST)
    port = port_of(origin)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {200 * MEGABYTE}"
    with proxy.inside(HOST, port, "http/1.1") as wire:
        wire.send(f"POST /denied HTTP/1.1\r\nHost: {HOST}:{port}\r\n{framing}\r\n\r\n".encode())
        block = b"a" * 65536
        block = b"10000\r\n" + block + b"\r\n" if chunked else block
        wire.send(block)
        reply = wire.reply()
        assert (reply.status, reply.reason, reply.field("connection")) == (403, "path-not-allowed", "close")
        gc.collect()
        before = resident()
        for _ in range(1000):
            wire.send(block)
            if wire.ended:
                break
        assert resident() - before < 20 * MEGABYTE
    assert origin.connections == []
    proxy.ledger.wait(1)


# clients that do not read


def test_a_client_that_does_not_read_stops_the_upstream(start: Callable[..., Proxy], origin: Origins) -> None:
    """The same over HTTP/1.1, where the sockets' own buffers are the limit."""
    site = make_site(start, origin)
    total, sent = 100 * MEGABYTE, [0]
    with site.origin.behaving(flood(total, sent)), site.proxy.connect() as wire:
        wire.send(f"GET http://{HOST}:{site.port}/ HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        still = -1
        while still != sent[0] or not still:
            still = sent[0]
            time.sleep(0.3)
        assert sent[0] < 40 * MEGABYTE
    site.proxy.until(lambda: not site.proxy.gate.open, "the end")


def test_what_is_pipelined_behind_a_request_is_not_held_without_end(
    start: Callable[..., Proxy], origin: Origins
) -> None:
    """While an answer is awaited, the client's next bytes stay in the sockets."""
    site = make_site(start, origin)
    answer = threading.Event()

    def slow(stream: Stream) -> None:
        stream.request()
        answer.wait(30)

    with site.origin.behaving(slow), site.proxy.connect() as wire:
        name = f"{HOST}:{site.port}"
        wire.send(f"GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        site.proxy.until(lambda: bool(site.received), "the request")
        taken = pushed(wire, b"x" * 65536, 200 * MEGABYTE)
        answer.set()
    assert taken < 40 * MEGABYTE


def test_a_large_body_passes_in_little_memory(start: Callable[..., Proxy], origin: Origins) -> None:
    """Streaming both ways: 64 MB up and down, counted in the row, with no more than a few of them in memory."""
    site = make_site(start, origin)
    total = 64 * MEGABYTE

    def exchange(stream: Stream) -> None:
        asked = stream.request()
        assert asked is not None
        # Not by the stream: it records what it reads.
        left = total - len(stream.held())
        while left:
            left -= len(stream.carrier.recv(65536))
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            stream.send(bytes(65536))

    with site.origin.behaving(exchange), site.proxy.connect() as wire:
        gc.collect()
        before = resident()
        name = f"{HOST}:{site.port}"
        wire.send(f"POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nContent-Length: {total}\r\n\r\n".encode())
        sender = threading.Thread(target=lambda: [wire.send(bytes(65536)) for _ in range(total // 65536)])
        sender.start()
        assert wire.until(b"\r\n\r\n") is not None
        received, peak = len(wire._held), 0
        while received < total:
            received += len(wire.receive())
            peak = max(peak, resident() - before) if received % 8 == 0 else peak
        sender.join()
    assert peak < 24 * MEGABYTE
    outcome = site.proxy.ledger.only()[1]
    assert (outcome.bytes_up, outcome.bytes_down) == (total, total)

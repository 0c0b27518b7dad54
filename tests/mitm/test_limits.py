"""Bounded: slow heads, many connections, bodies nobody wants, and clients that do not read."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Mode, Site, make_site
from rig.proxy import LOOPBACK, port_of
from rig.wire import _Stream, head

from egress.config import Limits
from egress.mitm import handler, http2
from egress.mitm.holding import held_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy
    from rig.wire import Wire

MEGABYTE = 1 << 20
QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.4, tls_seconds=0.4)


def resident() -> int:
    """Bytes of this process in memory; proxy, origin and client all run in it."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) * 1024
    raise AssertionError


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
    site.proxy.until(lambda: len(site.proxy.lane.connections) == 3, "three connections")
    with site.proxy.connect() as extra:
        assert extra.rest() == b""
    assert site.proxy.ledger.wait(1)[0].reason == "limit-connections"
    for wire in held:
        wire.close()
    site.proxy.until(lambda: not site.proxy.lane.connections, "room")
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


def test_a_denied_upload_over_http2_is_answered_early_and_not_held(
    start: Callable[..., Proxy], origin: Origins
) -> None:
    """The stream ends with its page; what was already under way for it crashes nothing."""
    port = port_of(origin)
    proxy = start(f"version: 1\nrules: [{{allow: '{HOST}:{port}', paths: [/ok], {LOOPBACK}}}]\n", HOST)
    with proxy.http2(HOST, port) as client:
        stream = client.request(head(f"{HOST}:{port}", "/denied", "POST"), b"a" * 16_000, end=False)
        reply = client.reply(stream)
        assert (reply.status, reply.reason) == (403, "path-not-allowed")
        assert client.reply(client.request(head(f"{HOST}:{port}", "/denied2"))).status == 403
    assert origin.connections == []


# clients that do not read


def flood(total: int, sent: list[int]) -> Callable[[Stream], None]:
    """An origin that answers with `total` bytes as fast as it is let, and notes how far it came."""

    def behave(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        block = bytes(65536)
        for _ in range(total // len(block)):
            stream.send(block)
            sent[0] += len(block)

    return behave


def test_a_client_that_does_not_read_http2_stops_the_upstream(start: Callable[..., Proxy], origin: Origins) -> None:
    """100 MB for a client that opens no window: the upstream is paused, and little is held; then all of it arrives."""
    site = make_site(start, origin)
    total, sent = 100 * MEGABYTE, [0]
    with (
        site.origin.behaving(flood(total, sent)),
        site.proxy.http2(HOST, site.port, flow_control=False) as client,
    ):
        gc.collect()
        before = resident()
        stream = client.request(head(f"{HOST}:{site.port}"))
        while len(client.streams[stream].body) < 65535:
            client.pump()
        still = -1
        while still != sent[0]:
            still = sent[0]
            time.sleep(0.3)
        assert sent[0] < 40 * MEGABYTE
        assert resident() - before < 40 * MEGABYTE
        (connection,) = site.proxy.lane.connections.values()
        assert handler.HOLD_SOFT <= held_bytes(connection.handler.layer, None) <= handler.HOLD_HARD
    site.proxy.until(lambda: not site.proxy.gate.open, "the end")


def test_a_connection_that_holds_too_much_is_closed(
    start: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the hard limit the connection ends, with the reason in its outcome; the proxy serves on."""
    monkeypatch.setattr(handler, "HOLD_SOFT", 10_000)
    monkeypatch.setattr(handler, "HOLD_HARD", 30_000)
    site = make_site(start, origin)
    with (
        site.origin.behaving(flood(8 * MEGABYTE, [0])),
        site.proxy.http2(HOST, site.port, flow_control=False) as client,
    ):
        reply = client.reply(client.request(head(f"{HOST}:{site.port}")))
        assert reply.status in {0, 200}
        assert client.gone
    assert site.proxy.ledger.only()[1].error == "limit-memory"
    assert site.exchange(Mode.PLAIN).status == 200


def test_a_client_that_reads_slowly_gets_everything(start: Callable[..., Proxy], origin: Origins) -> None:
    """Back-pressure pauses and goes on: no byte is lost, nothing is cut."""
    site = make_site(start, origin)
    total, sent = 8 * MEGABYTE, [0]
    with site.origin.behaving(flood(total, sent)), site.proxy.http2(HOST, site.port) as client:
        stream = client.request(head(f"{HOST}:{site.port}"))
        time.sleep(0.5)
        reply = client.reply(stream)
    assert (reply.status, len(reply.body)) == (200, total)
    outcome = site.proxy.ledger.only()[1]
    assert (outcome.bytes_down, outcome.error) == (total, None)


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


def pushed(wire: Wire, data: bytes, most: int) -> int:
    """Bytes that the proxy took of an endless stream, until it takes no more for a while, or `most` are in."""
    taken = 0
    wire.carrier.settimeout(1.0)
    try:
        while taken < most:
            taken += wire.carrier.send(data)
    except OSError:
        pass
    return taken


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
        (connection,) = site.proxy.lane.connections.values()
        held = held_bytes(connection.handler.layer, None)
        answer.set()
    assert taken < 40 * MEGABYTE
    assert handler.HOLD_SOFT < held < 4 * handler.HOLD_SOFT


def test_a_body_that_comes_while_its_request_is_judged_is_not_held_without_end(
    start: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judging may wait for the resolver or the audit; meanwhile the body stays in the sockets."""
    site = make_site(start, origin)
    judged = threading.Event()
    gate = site.proxy.gate
    admit = type(gate).admit

    async def later(self: object, asked: object) -> object:
        await asyncio.to_thread(judged.wait, 30)
        return await admit(self, asked)  # type: ignore[arg-type]

    monkeypatch.setattr(type(gate), "admit", later)
    with site.proxy.connect() as wire:
        name = f"{HOST}:{site.port}"
        head = f"POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nContent-Length: {1 << 40}\r\n\r\n"
        wire.send(head.encode())
        taken = pushed(wire, bytes(65536), 200 * MEGABYTE)
        (connection,) = site.proxy.lane.connections.values()
        held = held_bytes(connection.handler.layer, None)
        judged.set()
    assert taken < 40 * MEGABYTE
    assert handler.HOLD_SOFT < held < 4 * handler.HOLD_SOFT


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


# floods


@pytest.mark.parametrize(
    ("costs", "spent"),
    [
        ([(http2.BUDGET, 1.0)], [True]),
        ([(http2.BUDGET, 1.0), (1, 1.0)], [True, False]),
        ([(http2.BUDGET + 1, 1.0)], [False]),
        ([(http2.BUDGET, 1.0), (http2.REFILL, 2.0), (1, 2.0)], [True, True, False]),
        ([(1, 1.0), (http2.BUDGET, 1000.0), (1, 1000.0)], [True, True, False]),
    ],
    ids=["all", "one more", "at once", "a second later", "never more than full"],
)
def test_a_budget_is_a_bucket_of_tokens(costs: list[tuple[int, float]], spent: list[bool]) -> None:
    """Full at first, refilled by time, never fuller than full."""
    budget = http2.Budget()
    assert [budget.spend(cost, moment) for cost, moment in costs] == spent


@pytest.mark.parametrize("version", ["pipelined", "http2"])
def test_many_small_requests_at_once_leave_others_their_turn(
    version: str, start: Callable[..., Proxy], origin: Origins
) -> None:
    """A thousand requests fit in one read; between a few of them the loop goes round.

    HTTP/2 bounds them itself: no more streams than a client may have open wait for their turn.
    """
    site = make_site(start, origin)
    turns, at = [0], []
    run = site.proxy.lane.run

    async def watched(handler: object, hook: object, data: object) -> None:
        if hook.name == "requestheaders":  # type: ignore[attr-defined]
            at.append(turns[0])
        await run(handler, hook, data)  # type: ignore[arg-type]

    async def count_turns() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    site.proxy.lane.run = watched  # type: ignore[method-assign]
    ticking = asyncio.run_coroutine_threadsafe(count_turns(), site.proxy._loop)
    if version == "pipelined":
        with site.proxy.connect() as wire:
            wire.send(b"GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n" * 1000)
            for _ in range(1000):
                assert wire.reply().status == 403
    else:
        with site.proxy.http2(HOST, site.port) as client:
            for _ in range(90):
                stream = client.connection.get_next_available_stream_id()
                client.streams[stream] = _Stream()
                client.connection.send_headers(stream, head("denied.test:1"), end_stream=True)
            client.flush()
            assert {client.reply(stream).status for stream in client.streams} == {403}
    ticking.cancel()
    assert len(at) == (1000 if version == "pipelined" else 90)
    most = handler.HOOKS_AT_ONCE if version == "pipelined" else 100
    assert max(at.count(turn) for turn in set(at)) <= most


@pytest.mark.parametrize("flood_of", ["resets", "pings", "settings", "empty data"])
def test_an_http2_client_that_floods_is_cut_off(flood_of: str, start: Callable[..., Proxy], origin: Origins) -> None:
    """Events that cost work and bring nothing have a budget (CVE-2023-44487, CVE-2019-9511 and its kin)."""
    site = make_site(start, origin)
    with site.proxy.http2(HOST, site.port) as client:
        name = f"{HOST}:{site.port}"
        stream = client.request(head(name, "/up", "POST"), b"a", end=False) if flood_of == "empty data" else 0
        for number in range(4 * http2.BUDGET):
            match flood_of:
                case "resets":
                    client.connection.reset_stream(client.request(head(f"denied.test:{number}")))
                case "pings":
                    client.connection.ping(number.to_bytes(8))
                case "settings":
                    client.connection.update_settings({4: 65_535 + number % 2})
                case _:
                    client.connection.send_data(stream, b"")
            if number % 50 == 0:
                client.flush()
            if client.wire.ended:
                break
        while not client.gone:
            client.pump()
    site.proxy.until(lambda: not site.proxy.lane.connections, "the cut")
    site.proxy.until(lambda: not site.proxy.gate.open, "the end")
    assert "request-malformed" in {row.reason for row in site.proxy.ledger.decisions}
    assert site.exchange(Mode.PLAIN).status == 200


def test_an_http2_client_that_gives_up_some_streams_is_served_on(start: Callable[..., Proxy], origin: Origins) -> None:
    """Fifty resets are a browser's navigation, not an attack."""
    site = make_site(start, origin)
    with site.proxy.http2(HOST, site.port) as client:
        for _ in range(50):
            client.connection.reset_stream(client.request(head("denied.test:1")))
            client.flush()
        assert client.reply(client.request(head(f"{HOST}:{site.port}"))).status == 200

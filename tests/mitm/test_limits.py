"""Bounded: what HTTP/2 lets a client ask for at once, and what mitmproxy's layers hold."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rig.bulk import MEGABYTE, flood, pushed, resident
from rig.modes import HOST, Mode, make_site
from rig.proxy import LOOPBACK, port_of
from rig.wire import _Stream, head

from egress.mitm import draining, hook_runs, http2
from egress.mitm.holding import held_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy


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
        assert draining.HOLD_SOFT <= held_bytes(connection.handler.layer, None) <= draining.HOLD_HARD
    site.proxy.until(lambda: not site.proxy.gate.open, "the end")


def test_a_connection_that_holds_too_much_is_closed(
    start: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the hard limit the connection ends, with the reason in its outcome; the proxy serves on."""
    monkeypatch.setattr(draining, "HOLD_SOFT", 10_000)
    monkeypatch.setattr(draining, "HOLD_HARD", 30_000)
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
    assert draining.HOLD_SOFT < held < 4 * draining.HOLD_SOFT


def test_a_body_that_comes_while_its_request_is_judged_is_not_held_without_end(
    start: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judging may wait for the resolver or the audit; meanwhile the body stays in the sockets."""
    site = make_site(start, origin)
    judged = threading.Event()
    gate = site.proxy.gate
    admit = type(gate).admit_head

    async def later(self: object, asked: object) -> object:
        await asyncio.to_thread(judged.wait, 30)
        return await admit(self, asked)  # type: ignore[arg-type]

    monkeypatch.setattr(type(gate), "admit_head", later)
    with site.proxy.connect() as wire:
        name = f"{HOST}:{site.port}"
        head = f"POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nContent-Length: {1 << 40}\r\n\r\n"
        wire.send(head.encode())
        taken = pushed(wire, bytes(65536), 200 * MEGABYTE)
        (connection,) = site.proxy.lane.connections.values()
        held = held_bytes(connection.handler.layer, None)
        judged.set()
    assert taken < 40 * MEGABYTE
    assert draining.HOLD_SOFT < held < 4 * draining.HOLD_SOFT


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
    most = hook_runs.HOOKS_AT_ONCE if version == "pipelined" else 100
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

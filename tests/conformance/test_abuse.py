"""Peers that are slow, many, or silent, and a proxy that runs out of descriptors: others are served, memory is bounded.

Each test prints its figures (`pytest -s`). No time is asserted: what must end in time is waited for with patience.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conformance.cases import HOST, Way
from conformance.origin import OK, EndedError
from conformance.stage import DENIED, Stage
from harness.namespace import HarnessError
from harness.proxy import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conformance.client import Client
    from conformance.origin import Conversation

    type Start = Callable[..., Stage]

MEGABYTE = 1 << 20
SLOW = 300
MANY = 10_000
# What sockets may hold between the two ends, besides what the proxy does.
SOCKETS = 24 * MEGABYTE
GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
PLAIN_GET = f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
CONNECT = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()
LANES = pytest.mark.parametrize("lane", [None, "mitm"])


@pytest.fixture
def start(tmp_path: Path, stages: object) -> Iterator[Start]:
    """Start a stage with limits of the test's own; closed, and held to a clean end, after it."""
    del stages  # marks the test as one that starts a proxy
    with contextlib.ExitStack() as stack:

        def begin(lane: str | None = None, *, limits: str = "", **more: object) -> Stage:
            audit = "audit: {flush_interval: 0.02, queue: 100000, denial_rows: 1000000}\n"
            config = f"{audit}limits: {{drain_seconds: 2, {limits}}}\n"
            try:
                stage = Stage(tmp_path / f"stage-{lane}", lane, config=config, **more)  # type: ignore[arg-type]
            except HarnessError as problem:
                pytest.exit(str(problem), returncode=2)
            return stack.enter_context(stage)

        yield begin


def tell(**figures: object) -> None:
    """Print figures."""
    sys.stdout.write("\n" + ", ".join(f"{name} {value}" for name, value in figures.items()) + "\n")


def serves(stage: Stage, way: Way = Way.TLS) -> bool:
    """Whether somebody else is served."""
    with stage.client(way) as client:
        client.send(GET if way is Way.TLS else PLAIN_GET)
        answer = client.answer()
        return answer is not None and (answer.status, answer.body) == (200, b"ok")


def until(condition: Callable[[], bool], what: str, patience: float = 30) -> None:
    """Wait for something that must come to be."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def ended(client: Client) -> bool:
    """Whether the proxy has ended the connection; what it said before is read."""
    client.socket.setblocking(False)  # noqa: FBT003 -- the socket's own signature
    with contextlib.suppress(BlockingIOError):
        while client.receive():
            pass
    return client.ended


def descriptors(stage: Stage) -> int:
    """How many the proxy's processes have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in stage.proxy.family())  # noqa: PTH208 -- names are enough


@LANES
def test_slow_clients_are_ended_and_hinder_nobody(start: Start, lane: str | None) -> None:
    """300 clients of which each sends a byte now and then, in a head, a hello or a tunnel: others are served."""
    stage = start(lane, limits="head_seconds: 2, tls_seconds: 2, idle_seconds: 600")
    assert serves(stage)
    before = stage.proxy.resident()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(stage.connect()) for _ in range(SLOW)]
        drips = [
            PLAIN_GET[:-4] + b"X" * 500,
            CONNECT + b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
            CONNECT,
        ]
        sent = [0] * SLOW
        served, peak = 0, 0
        deadline = time.monotonic() + 40
        while not all(client.ended for client in clients):
            assert time.monotonic() < deadline, f"{sum(not one.ended for one in clients)} slow clients are still there"
            for number, client in enumerate(clients):
                drip = drips[number % len(drips)]
                # A tunnel is asked for at once; what comes in it drips.
                size = len(CONNECT) if drip.startswith(CONNECT) and not sent[number] else 1
                if not ended(client):
                    with contextlib.suppress(OSError):
                        client.socket.send(drip[sent[number] : sent[number] + size])
                    sent[number] += size
            assert serves(stage, Way.TLS if served % 2 else Way.PLAIN)
            served += 1
            peak = max(peak, stage.proxy.resident())
    grown = peak - before
    tell(slow_clients=SLOW, good_requests_meanwhile=served, grown_MB=grown >> 20)
    assert grown < 64 * MEGABYTE
    assert served > 1
    slow = [stage.rows(client.address)[0] for client in clients[:30]]
    assert {(row["verdict"], row["reason"]) for row in slow} == {("deny", "limit-time")}


def test_ten_thousand_connections_at_once_are_served(start: Start) -> None:
    """All are accepted and answered, somebody else is served while they are there, and all is given back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(MANY, hard - 500)
    stage = start(limits="connections: 20000, head_seconds: 100, idle_seconds: 600")
    assert serves(stage)
    memory, files = stage.proxy.resident(), descriptors(stage)
    request = f"GET http://{DENIED}/ HTTP/1.1\r\nHost: {DENIED}\r\n\r\n".encode()
    try:
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            clients = [stack.enter_context(stage.connect()) for _ in range(count)]
            for client in clients:
                client.send(request)
                client.socket.setblocking(False)  # noqa: FBT003 -- the socket's own signature
                selector.register(client.socket, selectors.EVENT_READ, client)
            waiting = set(clients)
            deadline = time.monotonic() + 90
            while waiting:
                assert time.monotonic() < deadline, f"{len(waiting)} of {count} have no answer"
                for key, _ in selector.select(1):
                    key.data.receive()
                    if b"}\n" in key.data.received or key.data.ended:
                        selector.unregister(key.fileobj)
                        waiting.discard(key.data)
            refused = [client for client in clients if b"host-not-allowed" not in client.received]
            # On a machine too busy to say in time that there is room, a few are turned away, none without a word.
            assert all(b"limit-connections" in client.received for client in refused)
            assert len(refused) < count / 100
            assert serves(stage)
            assert serves(stage, Way.PLAIN)
            grown = stage.proxy.resident() - memory
            tell(connections=count, turned_away=len(refused), open=descriptors(stage) - files, grown_MB=grown >> 20)
            assert grown < 400 * MEGABYTE
        until(lambda: descriptors(stage) < files + 50, "the descriptors to be given back")
        assert serves(stage)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pouring(total: int, poured: list[int]) -> Callable[[Conversation], None]:
    """Answers with `total` bytes, and notes how many were taken; other requests get `ok`."""

    def script(conversation: Conversation) -> None:
        if b" /big " not in conversation.head:
            conversation.send(OK)
            return
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // MEGABYTE):
            conversation.send(bytes(MEGABYTE))
            poured[0] += MEGABYTE

    return script


def still(measure: Callable[[], int]) -> int:
    """A measure, once it no longer changes."""
    last, since = measure(), time.monotonic()
    while time.monotonic() < since + 1:
        time.sleep(0.05)
        if (now := measure()) != last:
            last, since = now, time.monotonic()
    return last


@LANES
@pytest.mark.parametrize("way", list(Way))
def test_client_that_does_not_read_is_not_read_for(start: Start, lane: str | None, way: Way) -> None:
    """An answer of 200 MB that nobody takes stays at the origin; when the client leaves, so does the upstream."""
    stage = start(lane, limits="idle_seconds: 600")
    assert serves(stage, way)
    before, poured = stage.proxy.resident(), [0]
    marks = stage.origin.marks()
    with stage.origin.scripted(pouring(200 * MEGABYTE, poured)):
        with stage.client(way) as client:
            client.send((GET if way is Way.TLS else PLAIN_GET).replace(b"/ HTTP", b"/big HTTP"))
            until(lambda: poured[0] > 0, "the answer to begin")
            taken = still(lambda: poured[0])
            grown = stage.proxy.resident() - before
            assert serves(stage, way)
        tell(lane=lane, way=way, taken_MB=taken >> 20, grown_MB=grown >> 20)
        assert taken < SOCKETS
        assert grown < 32 * MEGABYTE
        seen = [seen for seen, data in stage.origin.since(marks).items() if b" /big " in data]
        assert all(one.ended.wait(20) for one in seen)


@LANES
@pytest.mark.parametrize("way", list(Way))
def test_upstream_that_does_not_read_is_not_read_for(start: Start, lane: str | None, way: Way) -> None:
    """Of a body of 200 MB that nobody takes only what the sockets hold leaves the client; the idle limit ends it."""
    stage = start(lane, limits="idle_seconds: 4")
    assert serves(stage, way)
    before = stage.proxy.resident()
    leave = threading.Event()

    def deaf(conversation: Conversation) -> None:
        if conversation.head.startswith(b"POST"):
            leave.wait(60)
            raise EndedError
        conversation.send(OK)

    sent = [0]

    def pour(client: Client) -> None:
        with contextlib.suppress(OSError):
            while sent[0] < 200 * MEGABYTE:
                sent[0] += client.socket.send(bytes(64 << 10))

    with stage.origin.scripted(deaf), stage.client(way) as client:
        head = (GET if way is Way.TLS else PLAIN_GET).replace(b"GET", b"POST")
        client.send(head[:-2] + b"Content-Length: %d\r\n\r\n" % (200 * MEGABYTE))
        client.socket.settimeout(60)
        pourer = threading.Thread(target=pour, args=(client,), daemon=True)
        pourer.start()
        until(lambda: sent[0] > 0, "the body to begin")
        taken = still(lambda: sent[0])
        grown = stage.proxy.resident() - before
        assert serves(stage, way)
        tell(lane=lane, way=way, taken_MB=taken >> 20, grown_MB=grown >> 20)
        assert taken < SOCKETS
        assert grown < 32 * MEGABYTE
        pourer.join(40)
        assert not pourer.is_alive(), "the client is left waiting for ever"
        leave.set()
    row = stage.rows(client.address)[0]
    assert str(row["error"]).split(":")[0] in {"limit-time", "client-closed", "upstream-unreachable"}


@LANES
def test_upstreams_that_do_not_answer_hinder_nobody(start: Start, lane: str | None) -> None:
    """100 requests wait for ever at the origin: others are served, the idle limit ends each, each is recorded."""
    stage = start(lane, limits="idle_seconds: 5")
    assert serves(stage)
    before = stage.proxy.resident()
    leave = threading.Event()

    def mute(conversation: Conversation) -> None:
        if b" /mute " in conversation.head:
            leave.wait(60)
            raise EndedError
        conversation.send(OK)

    with stage.origin.scripted(mute), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(stage.connect()) for _ in range(100)]
        for client in clients:
            client.send(PLAIN_GET.replace(b"/ HTTP", b"/mute HTTP"))
        for _ in range(10):
            assert serves(stage)
        grown = stage.proxy.resident() - before
        tell(lane=lane, waiting=100, grown_MB=grown >> 20)
        assert grown < 64 * MEGABYTE
        until(lambda: all(ended(client) for client in clients), "the idle limit")
        leave.set()
    for client in clients:
        (row,) = stage.rows(client.address)
        assert row["verdict"] == "allow"
        assert row["error"]


def processor_seconds(stage: Stage) -> float:
    """What the proxy's processes have used."""
    ticks = 0
    for pid in stage.proxy.family():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_proxy_without_descriptors_keeps_the_old_and_recovers(start: Start) -> None:
    """At the limit it takes no new connection, serves those it has, spins for none, and goes on when there is room."""
    low = f'ulimit -n 200 && exec "{COMMAND}" "$@"'
    stage = start(limits="head_seconds: 100, idle_seconds: 600", command=("sh", "-c", low, "egress"))
    for pid in stage.proxy.family():
        (line,) = [row for row in Path(f"/proc/{pid}/limits").read_text().splitlines() if "open files" in row]
        assert line.split()[3:5] == ["200", "200"]
    with stage.client(Way.TLS) as old, contextlib.ExitStack() as stack:
        old.send(GET)
        assert old.answer() is not None
        crowd = [stack.enter_context(stage.connect()) for _ in range(400)]
        until(lambda: max(files_of(stage)) >= 195, "the descriptors to run out")
        with stage.connect() as new:
            new.send(PLAIN_GET)
            new.socket.settimeout(1)
            with contextlib.suppress(TimeoutError):
                answer = new.answer()
                assert answer is None or answer.status >= 500, "somebody was served without a descriptor"
        used, since = processor_seconds(stage), time.monotonic()
        served = 0
        while time.monotonic() < since + 3:
            old.send(GET)
            answer = old.answer()
            assert answer is not None
            assert answer.body == b"ok"
            served += 1
            time.sleep(0.05)
        share = (processor_seconds(stage) - used) / (time.monotonic() - since)
        tell(open=max(files_of(stage)), served_to_the_old=served, processor_share=f"{share:.2f}")
        assert share < 0.6, "the proxy spins while it has no descriptors"
        for client in crowd:
            client.close()
        until(lambda: max(files_of(stage)) < 100, "the descriptors to be given back")
        old.send(GET)
        assert old.answer() is not None
    until(lambda: is_served(stage), "the proxy to serve again")
    assert serves(stage, Way.PLAIN)


def files_of(stage: Stage) -> list[int]:
    """How many descriptors each of the proxy's processes has."""
    counts = []
    for pid in stage.proxy.family():
        with contextlib.suppress(OSError):
            counts.append(len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 -- names are enough
    return counts


def is_served(stage: Stage) -> bool:
    """Whether a new connection is served by now."""
    with contextlib.suppress(AssertionError, OSError):
        return serves(stage)
    return False

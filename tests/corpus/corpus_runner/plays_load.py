"""Much at once, and too much of one thing: small versions, each held to memory, life and time."""

from __future__ import annotations

import contextlib
import time
import zlib
from typing import TYPE_CHECKING

import hpack
from harness.frames import PREFACE
from harness.origins import answer_raw
from harness.world import PROXY4
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from corpus_runner.evidence import judge
from corpus_runner.policies import HOST
from corpus_runner.scripts import script
from corpus_runner.wire import ask, get, observe

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess
    from harness.world import World

    from corpus_runner.cases import Case

ROOM = 64 << 20
# Others may have to wait so many seconds after an attack, and no longer.
RECOVERY = 6.0
HEAD_SECONDS = 1.5
CONFIG = (
    f"audit: {{flush_interval: 0.02}}\nlimits: {{drain_seconds: 1, head_seconds: {HEAD_SECONDS}, tls_seconds: 2}}\n"
)


@contextlib.contextmanager
def bounded(
    world: World, case: Case, proxy: ProxyProcess | None = None, *, http2: bool = False
) -> Iterator[ProxyProcess]:
    """A proxy that must live through the block, keep its memory, and serve others afterwards.

    `http2`: the process that carries it is there before the memory is taken.
    """
    own = proxy is None
    proxy = proxy or world.start(HOST, config=CONFIG)
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
    if http2:
        _h2(world, proxy, b"", 1)
    before = proxy.resident()
    yield proxy
    grown = proxy.resident() - before
    assert grown < ROOM, f"memory grew by {grown >> 20} MB"
    deadline = time.monotonic() + RECOVERY
    while not observe(world, proxy, ask, "").at("allowed"):
        assert time.monotonic() < deadline, "others are no longer served"
    if own:
        proxy.close()


@contextlib.contextmanager
def crowd(world: World, proxy: ProxyProcess, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say `first` and then nothing."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(world.namespace.connect(proxy.address)) for _ in range(count)]
        for one in made:
            with contextlib.suppress(OSError):
                one.sendall(first)
        yield made


def still_open(sockets: list[socket.socket]) -> int:
    """How many the proxy has not closed."""
    count = 0
    for one in sockets:
        one.setblocking(False)  # noqa: FBT003 -- the socket's own signature
        try:
            while one.recv(65536):
                pass
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


@script("DOS-001")
def slow_heads(world: World, case: Case) -> None:
    """A head that comes a byte at a time is not waited for beyond the limit."""
    with bounded(world, case) as proxy, crowd(world, proxy, 300, b"GET http://allowed.test/ HT") as sockets:
        started = time.monotonic()
        while time.monotonic() < started + HEAD_SECONDS + 2:
            time.sleep(0.5)
            for one in sockets:
                with contextlib.suppress(OSError):
                    one.sendall(b"T")
        assert still_open(sockets) == 0


@script("DOS-003")
def idle_connections(world: World, case: Case) -> None:
    """Many idle connections keep nobody else out."""
    with bounded(world, case) as proxy, crowd(world, proxy, 900):
        judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])


@script("DOS-014")
def stalled_handshake(world: World, case: Case) -> None:
    """A tunnel in which no TLS begins is closed in time."""
    hello = b"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n"
    with (
        bounded(world, case) as proxy,
        crowd(world, proxy, 20, hello) as silent,
        crowd(world, proxy, 20, hello + b"\x16\x03\x01\x02\x00\x01") as begun,
    ):
        time.sleep(HEAD_SECONDS + 2)
        assert still_open(silent) == still_open(begun) == 0


@script("DOS-004", "DOS-005", "DOS-006", "DOS-008")
def huge_heads(world: World, case: Case) -> None:
    """A head beyond the limit is refused at the limit: not read to its end, not held, not logged."""
    line = b"GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n"
    data = {
        "DOS-004": line + b"X-A: " + b"a" * (57 << 20),
        "DOS-005": line + b"X-A: " + b"b" * (19 << 20),
        "DOS-006": line + b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)) + b"\r\n",
        "DOS-008": b"GET http://allowed.test/" + b"u" * (1 << 20) + b" HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
    }[case.id]
    with bounded(world, case) as proxy:
        log = len(proxy.log)

        def act(client: Attacker) -> None:
            for start in range(0, len(data), 1 << 20):
                if not client.send(data[start : start + (1 << 20)]):
                    break
            client.response()

        evidence = observe(world, proxy, act)
        assert b"ok allowed" not in evidence.client_bytes
        judge(case, evidence, ["no_upstream_bytes", "audit_row(deny)"])
        assert len(proxy.log) - log < 20_000


@script("DOS-011")
def compressed_response(world: World, case: Case) -> None:
    """A response that would unpack to 300 MB passes as it is, packed."""
    packed = zlib.compress(bytes(300 << 20), 9)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    with bounded(world, case, http2=True) as proxy, world.origins.behaving(answer_raw(answer)):
        evidence = observe(world, proxy, ask, "allow")
        assert len(evidence.client_bytes) > len(packed)


def _h2(world: World, proxy: ProxyProcess, frames: bytes, times: int) -> None:
    with world.attacker(proxy, world.fresh_client()) as client:
        assert client.connect("allowed.test:443")
        assert client.handshake("allowed.test", ["h2"])
        client.send(PREFACE + SettingsFrame(0).serialize())
        for _ in range(times):
            if not client.send(frames):
                break
        client.drain(0.3)


def _headers(stream: int, *extra: tuple[str, str], flags: tuple[str, ...] = ("END_HEADERS", "END_STREAM")) -> bytes:
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "allowed.test"), (":path", "/x"), *extra]
    return HeadersFrame(stream, data=hpack.Encoder().encode(fields), flags=list(flags)).serialize()


@script("DOS-016")
def rapid_reset(world: World, case: Case) -> None:
    """Streams that are opened and reset at once, 2,000 of them."""
    with bounded(world, case, http2=True) as proxy:
        frames = b"".join(
            _headers(stream) + RstStreamFrame(stream, error_code=8).serialize() for stream in range(1, 4001, 2)
        )
        _h2(world, proxy, frames, 1)


@script("DOS-017")
def endless_continuation(world: World, case: Case) -> None:
    """A header block that never ends."""
    with bounded(world, case, http2=True) as proxy:
        start = _headers(1, flags=("END_STREAM",))
        piece = hpack.Encoder().encode([(f"x-{number}", "v" * 100) for number in range(100)], huffman=False)
        frames = b"".join(ContinuationFrame(1, data=piece).serialize() for _ in range(64))
        _h2(world, proxy, start + frames, 8)


@script("DOS-018")
def control_frames(world: World, case: Case) -> None:
    """Floods of SETTINGS, PING and empty DATA."""
    with bounded(world, case, http2=True) as proxy:
        one = SettingsFrame(0).serialize() + PingFrame(0, opaque_data=b"12345678").serialize()
        _h2(world, proxy, one * 200, 100)
        post = _headers(1, flags=("END_HEADERS",)) + DataFrame(1, data=b"").serialize() * 2000
        _h2(world, proxy, post, 1)


@script("DOS-019")
def header_bomb(world: World, case: Case) -> None:
    """A small block that refers to one large entry a thousand times."""
    with bounded(world, case, http2=True) as proxy:
        encoder = hpack.Encoder()
        first = encoder.encode(
            [(":method", "GET"), (":scheme", "https"), (":authority", "allowed.test"), (":path", "/x")]
        )
        large = encoder.encode([("x-large", "v" * 3500)], huffman=False)
        again = encoder.encode([("x-large", "v" * 3500)], huffman=False)
        block = HeadersFrame(1, data=first + large + again * 8000, flags=["END_HEADERS", "END_STREAM"]).serialize()
        _h2(world, proxy, block, 1)


@script("DOS-021", "DOS-023")
def dialling_in_circles(world: World, case: Case) -> None:
    """A name for the proxy itself, and two proxies that are each other's upstream, end in one denial."""
    policy = 'version: 1\ndefault: deny\nrules:\n  - allow: "**"\n    ports: [1-65535]\n'
    name = "circle.test"
    with world.names.answering(name, [f"A {PROXY4}"]):
        first = world.proxy(policy)
        other = world.proxy(policy + "# the other\n") if case.id == "DOS-023" else first
        port = other.address[1]
        packets = len(world.tap.packets)
        evidence = observe(world, first, lambda client: get(client, f"http://{name}:{port}/", f"{name}:{port}"), "*")
        dialled = [
            packet
            for packet in world.tap.packets[packets:]
            if packet.kind == "tcp" and packet.source != evidence.client
        ]
    assert len(dialled) <= (1 if other is not first else 0)
    assert b" 200 " not in evidence.client_bytes
    assert evidence.rows


@script("DOS-024")
def flood_of_denials(world: World, case: Case) -> None:
    """A thousand denials on few connections: each is recorded or counted, and others are served meanwhile."""
    with bounded(world, case) as proxy:
        source = world.fresh_client()
        request = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
        denied = 0
        for _ in range(10):
            with world.attacker(proxy, source) as client:
                client.send(request * 100)
                client.response()
                client.drain(0.3)
                denied += client.answers.tunnel.count(b"HTTP/1.1 403")
        # Beyond a budget they share rows, each with a count, which come a second later.
        rows = proxy.wait_rows(source, lambda rows: sum(row["count"] for row in rows) >= denied, patience=20)
        assert denied >= 10
        assert sum(row["count"] for row in rows) == denied
        assert {row["verdict"] for row in rows} == {"deny"}


@script("DOS-025")
def long_urls(world: World, case: Case) -> None:
    """Long URLs do not make long rows without bound."""
    with bounded(world, case) as proxy:
        source = world.fresh_client()
        before = sum(path.stat().st_size for path in proxy.state.glob("audit.db*"))
        for number in range(50):
            with world.attacker(proxy, source) as client:
                get(client, f"http://evil.test/{number}{'u' * 16000}", "evil.test")
        rows = proxy.wait_rows(source, lambda rows: len(rows) >= 50)
        assert len(rows) == 50
        grown = sum(path.stat().st_size for path in proxy.state.glob("audit.db*")) - before
        assert max(len(str(row["path"])) for row in rows) <= 16_384
        assert grown < 8 << 20

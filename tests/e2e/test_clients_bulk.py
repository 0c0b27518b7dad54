"""A gigabyte each way in constant memory: bodies made as they go, the proxy's memory watched all the time."""

from __future__ import annotations

import contextlib
import threading
from http.client import HTTPResponse
from typing import TYPE_CHECKING

from test_clients_streams import tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.origins import Stream
    from harness.proxy import ProxyProcess
    from harness.station import Station

GIGABYTE = 1 << 30
PIECE = bytes(range(256)) * 1024
# design.md: under 8 MB over idle; the interpreter's own arenas and TLS buffers take some when first used.
ROOM = 24 << 20


@contextlib.contextmanager
def watched(proxy: ProxyProcess) -> Iterator[list[int]]:
    """Sample the proxy's memory; the list has the sizes in bytes."""
    sizes = [proxy.resident()]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            sizes.append(proxy.resident())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()


def _give(stream: Stream) -> None:
    if stream.request():
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        for _ in range(GIGABYTE // len(PIECE)):
            stream.send(PIECE)


def _take(stream: Stream) -> None:
    if head := stream.request():
        left = int(head.values(b"content-length")[0]) - len(stream.held())
        while left > 0 and (data := stream.carrier.recv(1 << 18)):
            left -= len(data)
        body = b"left %d" % left
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def _warm(station: Station) -> None:
    """Use each path once, so that the first use's memory is not taken for growth."""
    with tunnel(station, "stream.test") as tls:
        tls.sendall(b"POST /warm HTTP/1.1\r\nHost: stream.test\r\nContent-Length: 1048576\r\n\r\n" + PIECE * 4)
        assert b"200" in tls.recv(65536)


def test_a_gigabyte_down_passes_in_constant_memory(station: Station) -> None:
    """The download streams: memory stays where it was."""
    _warm(station)
    window = station.window()
    got = 0
    with station.world.origins.behaving(_give), tunnel(station, "stream.test") as tls, watched(station.proxy) as sizes:
        tls.sendall(b"GET /big HTTP/1.1\r\nHost: stream.test\r\n\r\n")
        # The answer is searched for the secret that the request carried, so its length is told in chunks.
        answer = HTTPResponse(tls)
        answer.begin()
        buffer = bytearray(1 << 18)
        while count := answer.readinto(buffer):
            got += count
    assert got == GIGABYTE
    assert max(sizes) - sizes[0] < ROOM, f"from {sizes[0] >> 20} to {max(sizes) >> 20} MB"
    (row,) = window.rows(1)
    assert row["verdict"] == "allow"


def test_a_gigabyte_up_passes_in_constant_memory(station: Station) -> None:
    """The upload streams: memory stays where it was."""
    _warm(station)
    window = station.window()
    with station.world.origins.behaving(_take), tunnel(station, "stream.test") as tls, watched(station.proxy) as sizes:
        tls.settimeout(60)
        tls.sendall(b"POST /big HTTP/1.1\r\nHost: stream.test\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        for _ in range(GIGABYTE // len(PIECE)):
            tls.sendall(PIECE)
        answer = b""
        while b"left" not in answer and (more := tls.recv(65536)):
            answer += more
        assert b"left 0" in answer, answer
    assert max(sizes) - sizes[0] < ROOM, f"from {sizes[0] >> 20} to {max(sizes) >> 20} MB"
    (row,) = window.rows(1)
    assert row["verdict"] == "allow"

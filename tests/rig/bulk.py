"""Much data: an origin that sends it, and what of it is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Stream

    from rig.wire import Wire

MEGABYTE = 1 << 20


def resident() -> int:
    """Bytes of this process in memory; proxy, origin and client all run in it."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) * 1024
    raise AssertionError


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

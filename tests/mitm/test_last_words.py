"""What a peer does not take of the last that was written keeps no closed connection open."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from mitmproxy.proxy import events
from rig.bulk import MEGABYTE, flood, pushed
from rig.modes import HOST, RAW, Site, make_site

from egress.mitm import last_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from mitmproxy.connection import Connection
    from rig.proxy import Proxy


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The usual site; a peer that takes nothing is left soon."""
    monkeypatch.setattr(last_words, "_LAST_SECONDS", 0.2)
    return make_site(start, origin)


def sockets(site: Site) -> dict[Connection, socket.socket]:
    """Those of the one connection that is carried, and its upstream's."""
    (connection,) = site.proxy.lane.connections.values()
    found = connection.handler.transports.items()
    return {each: io.writer.get_extra_info("socket") for each, io in found}


def test_a_client_that_reads_no_more_is_left(site: Site) -> None:
    """It has its place until then, and not for as long as it likes."""
    sent = [0]
    with site.origin.behaving(flood(100 * MEGABYTE, sent)), site.proxy.connect() as wire:
        wire.send(f"GET http://{HOST}:{site.port}/ HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        still = -1
        while still != sent[0] or not still:
            still = sent[0]
            time.sleep(0.2)
        held = sockets(site)
        wire.carrier.shutdown(socket.SHUT_WR)
        site.proxy.until(lambda: not site.proxy.gate.open, "the end of the exchange")
        site.proxy.until(lambda: {each.fileno() for each in held.values()} == {-1}, "the end of its sockets")
        site.proxy.until(lambda: not site.proxy.master.connections, "the end of its place")


def test_a_server_that_reads_no_more_is_left(site: Site) -> None:
    """A reload has cut what led there."""
    over = threading.Event()

    def deaf(stream: Stream) -> None:
        stream.send(b"go")
        over.wait(20)

    with site.origin.behaving(deaf):
        wire, reply = site.proxy.tunnel(RAW, site.port)
        with wire:
            assert (reply.status, wire.send(b"\0").exactly(2)) == (200, b"go")
            pushed(wire, bytes(1 << 16), 40 * MEGABYTE)
            held = sockets(site)
            assert site.proxy.reload("version: 1\nrules: []\n") == 1
        try:
            site.proxy.until(lambda: {each.fileno() for each in held.values()} == {-1}, "the end of its sockets")
        finally:
            over.set()


def test_a_peer_that_reads_slowly_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes some of what was written last each time that is looked."""
    monkeypatch.setattr(last_words, "_LAST_SECONDS", 0.2)

    async def work() -> None:
        near, far = socket.socketpair()
        with far:
            far.setblocking(False)  # noqa: FBT003 - the method takes it so
            _, writer = await asyncio.open_unix_connection(sock=near)
            writer.write(bytes(4 * MEGABYTE))
            ending = asyncio.ensure_future(last_words.let_go(writer))
            size = 0
            while data := await asyncio.get_running_loop().sock_recv(far, 1 << 16):
                size += len(data)
                await asyncio.sleep(0.01)
            await ending
        assert size == 4 * MEGABYTE

    asyncio.run(work())


def test_a_connection_that_is_closed_says_nothing_more(site: Site) -> None:
    """INVARIANT fail-closed: the layers go on in the same breath, before the task that carries it has ended."""
    asked = b"GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n"
    with site.proxy.connect() as wire:
        site.proxy.until(lambda: bool(site.proxy.lane.connections), "the connection")
        (connection,) = site.proxy.lane.connections.values()

        async def close_and_go_on() -> None:
            connection.close()
            await connection.handler.server_event(events.DataReceived(connection.handler.client, asked))

        asyncio.run_coroutine_threadsafe(close_and_go_on(), site.proxy._loop).result(10)
        assert wire.rest() == b""

"""What the sandboxes do: kinds of work, each of which knows what has to come of it.

A kind raises when something else comes. What it did for certain it adds to the ledger, so that the audit can be held to
it: decisions on `host`, with this verdict.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import secrets
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from bench.soaking.clients import AAAA, A, Sandbox, WrongError, expect, inside, socks
from bench.soaking.internet import hashed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from bench.soaking.proxy import Proxy

API, TWO, WEB, READ = "api.example.com", "two.example.com", "web.example.com", "read.example.com"
TUNNEL, DATABASE, GONE, EVIL = "tunnel.example.com", "db.example.com", "gone.example.com", "evil.example.org"
# Where nobody who was denied may ever arrive; any address does.
ELSEWHERE: Final = ("203.0.113.9", "2001:db8:99::9")
BIG: Final = 3_000_000
_KIND_SECONDS: Final = 60.0


@dataclass(slots=True)
class World:
    """What the traffic has in common, and its ledger."""

    proxy: Proxy
    ours: ssl.SSLContext
    theirs: ssl.SSLContext
    two: ssl.SSLContext
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    decided: Counter[tuple[str, str]] = field(default_factory=Counter)
    unsure: Counter[str] = field(default_factory=Counter)
    # From when to when connections may break, for a process is killed.
    disturbed: list[tuple[float, float]] = field(default_factory=list)
    stopping: bool = False

    def decide(self, host: str, verdict: str, times: int = 1) -> None:
        """What the audit has to have."""
        self.decided[host, verdict] += times

    def seen(self, value: str | None) -> None:
        """The secret has to have been injected, the present one or the one before."""
        expect(value in map(hashed, self.proxy.secrets), f"the server saw {value!r}")

    async def do(self, kind: Kind, sandbox: Sandbox) -> None:
        """One piece of work, counted by what became of it."""
        began = time.monotonic()
        try:
            await asyncio.wait_for(kind.work(sandbox, self), _KIND_SECONDS)
        except (
            OSError,
            EOFError,
            ValueError,
            IndexError,
            TimeoutError,
            KeyError,
            WrongError,
            h2.exceptions.H2Error,
        ) as error:
            self.unsure[kind.host] += 3
            ended = time.monotonic()
            if any(began < until and since < ended for since, until in self.disturbed):
                self.excused[kind.name] += 1
            else:
                self.failed[kind.name] += 1
                self.examples.setdefault(kind.name, f"{type(error).__name__}: {error}; sandbox {sandbox.number}")
        else:
            self.done[kind.name] += 1


async def ask_allowed(sandbox: Sandbox, world: World) -> None:
    """A name that a rule allows has one of our addresses."""
    code, found = await sandbox.question(WEB, A)
    expect(code == 0 and found and found[0][0] == 198, f"{code} {found}")
    world.decide("dns", "allow")


async def ask_denied(sandbox: Sandbox, world: World) -> None:
    """Any other name does not exist."""
    code, found = await sandbox.question(f"{secrets.token_hex(3)}.{EVIL}", secrets.choice((A, AAAA)))
    expect(code == 3 and not found, f"{code} {found}")
    world.decide("dns", "deny")


async def _address(sandbox: Sandbox, world: World, host: str) -> str:
    found = await sandbox.resolve(host)
    world.decide("dns", "allow")
    return found


async def plain(sandbox: Sandbox, world: World) -> None:
    """Plain HTTP, redirected."""
    async with await sandbox.connect(await _address(sandbox, world, WEB), 80) as wire:
        for keep in (True, False):
            got = await wire.ask(f"GET /plain HTTP/1.1\r\nHost: {WEB}", keep=keep)
            expect(got.status == 200 and got.body == b"0 bytes taken\n", got)
            world.decide(WEB, "allow")


async def plain_denied(sandbox: Sandbox, world: World) -> None:
    """The page of a denial."""
    async with await sandbox.connect(secrets.choice(ELSEWHERE), 80) as wire:
        expect((await wire.ask(f"GET / HTTP/1.1\r\nHost: {EVIL}")).status == 403, "not denied")
        world.decide(EVIL, "deny")


async def inspected(sandbox: Sandbox, world: World) -> None:
    """TLS that is opened: three requests, into each of which the secret is put."""
    async with await sandbox.connect(await _address(sandbox, world, API), 443, world.ours, API) as wire:
        for size in (0, 500, 200_000):
            got = await wire.ask(f"POST /upload HTTP/1.1\r\nHost: {API}", b"u" * size)
            expect(got.status == 200 and got.body == b"%d bytes taken\n" % size, got)
            world.decide(API, "allow")
            world.seen(got.fields["x-seen"])


async def inspected_denied(sandbox: Sandbox, world: World) -> None:
    """A method that no rule allows, beside one that is allowed."""
    async with await sandbox.connect(await _address(sandbox, world, READ), 443, world.ours, READ) as wire:
        expect((await wire.ask(f"GET / HTTP/1.1\r\nHost: {READ}")).status == 200, "not allowed")
        world.decide(READ, "allow")
        expect((await wire.ask(f"DELETE / HTTP/1.1\r\nHost: {READ}")).status == 403, "not denied")
        world.decide(READ, "deny")


async def tls_denied(sandbox: Sandbox, world: World) -> None:
    """A page inside TLS."""
    async with await sandbox.connect(secrets.choice(ELSEWHERE), 443, world.ours, EVIL) as wire:
        expect((await wire.ask(f"GET / HTTP/1.1\r\nHost: {EVIL}")).status == 403, "not denied")
        world.decide(EVIL, "deny")


async def tunnel(sandbox: Sandbox, world: World) -> None:
    """TLS that passes unopened: the server's own certificate."""
    async with await sandbox.connect(await _address(sandbox, world, TUNNEL), 443, world.theirs, TUNNEL) as wire:
        got = await wire.ask(f"GET /big/{BIG} HTTP/1.1\r\nHost: {TUNNEL}")
        expect((got.status, got.length, got.fields["x-seen"]) == (200, BIG, hashed("")), got)
        world.decide(TUNNEL, "allow")


async def raw(sandbox: Sandbox, world: World) -> None:
    """Raw TCP to an address that was given out, where the server is the first to speak."""
    async with await sandbox.connect(await _address(sandbox, world, DATABASE), 5432) as wire:
        expect(await wire.reader.readline() == b"hello\n", "no greeting")
        wire.writer.write(b"select" * 1000)
        expect(await wire.reader.readexactly(6000) == b"select" * 1000, "no echo")
        world.decide(DATABASE, "allow")


async def raw_denied(sandbox: Sandbox, world: World) -> None:
    """Another port of the same host: a reset, or an end."""
    async with await sandbox.connect(await _address(sandbox, world, DATABASE), 5433) as wire:
        wire.writer.write(b"\x00\x00\x00\x08\x04\xd2\x16\x2f" * 8)
        with contextlib.suppress(ConnectionError):
            expect(not await wire.reader.read(1), "something answers")
        world.decide(DATABASE, "deny")


async def by_socks(sandbox: Sandbox, world: World) -> None:
    """SOCKS5: a tunnel, and a host that is denied."""
    async with await sandbox.proxied() as wire:
        expect(await socks(wire, TUNNEL, 443) == 0, "not allowed")
        await inside(wire, world.theirs, TUNNEL)
        expect((await wire.ask(f"GET / HTTP/1.1\r\nHost: {TUNNEL}")).status == 200, "no answer")
        world.decide(TUNNEL, "allow")
    async with await sandbox.proxied() as wire:
        expect(await socks(wire, EVIL, 443) == 2, "not denied")
        world.decide(EVIL, "deny")


async def by_connect(sandbox: Sandbox, world: World) -> None:
    """CONNECT, and a big body inside."""
    async with await sandbox.proxied() as wire:
        expect((await wire.ask(f"CONNECT {API}:443 HTTP/1.1\r\nHost: {API}:443")).status == 200, "not allowed")
        await inside(wire, world.ours, API)
        got = await wire.ask(f"GET /big/{BIG} HTTP/1.1\r\nHost: {API}")
        expect((got.status, got.length) == (200, BIG), got)
        world.decide(API, "allow")
        world.seen(got.fields["x-seen"])
    async with await sandbox.proxied() as wire:
        expect((await wire.ask(f"CONNECT {EVIL}:443 HTTP/1.1\r\nHost: {EVIL}:443")).status == 403, "not denied")
        world.decide(EVIL, "deny")


async def websocket(sandbox: Sandbox, world: World) -> None:
    """Frames there and back."""
    async with await sandbox.connect(await _address(sandbox, world, API), 443, world.ours, API) as wire:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        more = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
        wire.writer.write(f"GET /socket HTTP/1.1\r\nHost: {API}\r\n{more}\r\n\r\n".encode())
        expect((await wire.head()).status == 101, "no WebSocket")
        for code in (1, 1, 1, 8):
            wire.writer.write(bytes([0x80 | code, 0x84]) + bytes(4) + b"soak")
            expect(await wire.reader.readexactly(6) == bytes([0x80 | code, 4]) + b"soak", "no echo")
            await asyncio.sleep(0.1)
        world.decide(API, "allow")


async def events(sandbox: Sandbox, world: World) -> None:
    """A stream of events, each as it comes."""
    async with await sandbox.connect(await _address(sandbox, world, API), 443, world.ours, API) as wire:
        got = await wire.ask(f"GET /events/10 HTTP/1.1\r\nHost: {API}")
        expect(got.status == 200 and got.body.count(b"data: ") == 10, got)
        world.decide(API, "allow")


async def http2(sandbox: Sandbox, world: World) -> None:
    """Three requests at once over HTTP/2."""
    async with await sandbox.connect(await _address(sandbox, world, TWO), 443, world.two, TWO) as wire:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", TWO), (":path", "/two")]
        for number in (1, 3, 5):
            connection.send_headers(number, fields, end_stream=True)
        wire.writer.write(connection.data_to_send())
        left = 3
        while left:
            data = await wire.reader.read(65_536)
            expect(data, "the connection ended")
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    told = dict(event.headers)
                    expect(told[":status"] == "200", told)
                    world.seen(told["x-seen"])
                left -= isinstance(event, h2.events.StreamEnded)
            wire.writer.write(connection.data_to_send())
        world.decide(TWO, "allow", 3)


async def vanish(sandbox: Sandbox, world: World) -> None:
    """Be gone in the middle of something."""
    address, step = await _address(sandbox, world, GONE), secrets.randbelow(6)
    wire = await sandbox.connect(address, 443, None if step < 2 else world.ours, GONE)
    try:
        match step:
            case 0:
                pass
            case 1:
                wire.writer.write(b"\x16\x03\x01\x02\x00\x01\x00")
            case 2:
                wire.writer.write(b"GET / HTTP/1.1\r\nHo")
            case 3:
                wire.writer.write(f"POST / HTTP/1.1\r\nHost: {GONE}\r\nContent-Length: 90000\r\n\r\nhalf".encode())
            case 4:
                wire.writer.write(f"GET /big/50000000 HTTP/1.1\r\nHost: {GONE}\r\n\r\n".encode())
                await wire.reader.read(1)
            case _:
                wire.writer.write(f"GET /events/1000 HTTP/1.1\r\nHost: {GONE}\r\n\r\n".encode())
                await wire.head()
        await asyncio.sleep(random.random() / 2)  # noqa: S311 - no secret
    finally:
        wire.vanish()


async def other_ways(sandbox: Sandbox, world: World) -> None:
    """What is neither TCP nor DNS gets nowhere: UDP to port 443."""
    del world
    sock = sandbox.space.socket(kind=socket.SOCK_DGRAM)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (ELSEWHERE[0], 443))
        await loop.sock_sendall(sock, b"quic")
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(loop.sock_recv(sock, 100), 0.5)
            raise WrongError("something answers over UDP")
    finally:
        sock.close()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work, how often it is done beside the others, and the host whose decisions it is about."""

    name: str
    weight: int
    host: str
    work: Callable[[Sandbox, World], Awaitable[None]]


KINDS: Final = (
    Kind("DNS, allowed", 6, "dns", ask_allowed),
    Kind("DNS, denied", 6, "dns", ask_denied),
    Kind("plain HTTP", 6, WEB, plain),
    Kind("plain HTTP, denied", 4, EVIL, plain_denied),
    Kind("TLS inspected, secret injected", 8, API, inspected),
    Kind("TLS inspected, method denied", 4, READ, inspected_denied),
    Kind("TLS, host denied", 4, EVIL, tls_denied),
    Kind("TLS unopened, 3 MB", 3, TUNNEL, tunnel),
    Kind("raw TCP", 5, DATABASE, raw),
    Kind("raw TCP, denied", 3, DATABASE, raw_denied),
    Kind("SOCKS5, allowed and denied", 5, TUNNEL, by_socks),
    Kind("CONNECT, 3 MB, and denied", 3, API, by_connect),
    Kind("WebSocket", 3, API, websocket),
    Kind("event stream", 3, API, events),
    Kind("HTTP/2", 4, TWO, http2),
    Kind("client vanishes", 6, GONE, vanish),
    Kind("UDP refused", 2, "", other_ways),
)
WEIGHTS: Final = [kind.weight for kind in KINDS]


async def live(sandbox: Sandbox, world: World, pause: float) -> None:
    """Be one sandbox until the end: work of random kinds, with random pauses of `pause` seconds on average."""
    await asyncio.sleep(random.random() * pause)  # noqa: S311 - no secret
    while not world.stopping:
        (kind,) = random.choices(KINDS, WEIGHTS)  # noqa: S311 - no secret
        await world.do(kind, sandbox)
        await asyncio.sleep(random.expovariate(1 / pause))

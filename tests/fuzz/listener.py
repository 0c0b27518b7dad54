"""Fuzzes a running proxy over raw sockets: whole sessions of CONNECT, TLS and requests, mutated, cut, broken off.

What must hold: the process lives and logs no error; a connection ends when its client says no more; nothing reaches a
host that no rule allows; what reaches the allowed one is well-formed requests to it, none more than the audit has
allowed; a tunnel carries only hellos for its own name; descriptors and memory are given back.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from conformance.cases import HOST, Way
from conformance.stage import DENIED, GET_ONLY, TUNNELLED
from fuzz.heads import PIECES, REQUESTS
from fuzz.hellos import fitted, flight
from fuzz.mutation import cuts_of, mutate

from egress.wire.chunked import ChunkedChecker
from egress.wire.client_hello import ClientHello, parse_client_hello
from egress.wire.head import Chunked, ContentLength, NeedMore, Reject, RequestHead, TargetForm, parse_request_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.client import Client
    from conformance.stage import Stage

THREADS = 16
# Waits that are shorter than a user's, so that a connection that is left alone ends within the fuzzer's patience.
CONFIG = """\
audit: {flush_interval: 0.05}
limits: {drain_seconds: 3, head_seconds: 3, tls_seconds: 3, idle_seconds: 5}
"""
NAMES = (
    HOST,
    HOST,
    HOST,
    GET_ONLY,
    TUNNELLED,
    TUNNELLED,
    DENIED,
    "93.184.216.66",
    "localhost",
    "127.1",
    "origin.test.",
)
_ROOM = 96 << 20
_SPARE = 64
_LINGER_NOT = struct.pack("ii", 1, 0)

_PLAIN = tuple(re.sub(rb"a\.test(:8080)?|(?<=Host: )a(?=\r)", HOST.encode(), request) for request in REQUESTS)
_INSIDE = tuple(request for request in _PLAIN if b"http://" not in request)
_ASKED = (
    b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n",
    b"POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 3\r\n\r\nabc",
    b"POST http://origin.test/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    *(request for request in _PLAIN if b"http" in request[:12]),
)
_EVIL = (
    b"evil.test", b"http://evil.test/", b"\r\nHost: evil.test", b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n",
    b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", b"93.184.216.66", b"\r\nTransfer-Encoding: chunked",
    b"0\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket",
)  # fmt: skip
_WORDS = PIECES + _EVIL


@dataclass(slots=True)
class Tally:
    """What a run came to: sessions by kind, what reached the origins, and findings."""

    requests: int = 0
    tunnels: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())
        told = (
            f"{self.kinds.total()} sessions ({kinds}), {self.requests} requests and {self.tunnels} tunnels at origins"
        )
        return "\n".join([f"listener: {told}, {len(self.findings)} findings", *self.findings])


class ListenerFuzz:
    """Sessions against a stage; the session of a number is the same for the same seed."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage, self._seed = stage, seed
        self._hellos = {
            name: flight(name, newest=newest, alpn=("http/1.1",))
            for name in (HOST, TUNNELLED, DENIED)
            for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
        }
        self._all_hellos = (*self._hellos.values(), flight(None, newest=ssl.TLSVersion.TLSv1_3))
        self.tally = Tally()
        self._lock = threading.Lock()

    def run(self, *, count: int | None = None, seconds: float | None = None) -> Tally:
        """So many sessions, or so long; then what must hold at the end."""
        self._good("before")
        descriptors, memory = self._descriptors(), self._stage.proxy.resident()
        deadline = None if seconds is None else time.monotonic() + seconds
        numbers = iter(range(count if count is not None else 1 << 40))

        def work(_: int) -> None:
            while deadline is None or time.monotonic() < deadline:
                with self._lock:
                    number = next(numbers, None)
                if number is None or len(self.tally.findings) > 20:
                    return
                self._session(number)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))
        self._good("after")
        self._settled(descriptors, memory)
        self._check_log()
        self._check_origins()
        return self.tally

    def _found(self, what: str) -> None:
        with self._lock:
            self.tally.findings.append(f"finding: {what}")

    def _session(self, number: int) -> None:
        chance = Random(f"{self._seed} {number}")  # noqa: S311 -- repeatable by intent
        kind = "refused connection"
        try:
            with self._stage.connect() as client:
                kind = self._play(client, chance)
        except TimeoutError:
            self._found(f"session {number}: the connection neither answers nor ends")
        except (OSError, AssertionError) as error:
            if isinstance(error, AssertionError):
                self._found(f"session {number}: {error}")
        with self._lock:
            self.tally.kinds[kind] += 1

    def _play(self, client: Client, chance: Random) -> str:
        way = chance.choice(("plain", "connect", "tls", "tls", "noise"))
        if way == "plain":
            self._send(client, chance, self._requests(chance, _ASKED))
        elif way == "noise":
            self._send(client, chance, chance.randbytes(chance.choice((1, 5, 40, 600))))
        elif way == "connect":
            name = chance.choice((TUNNELLED, chance.choice(NAMES)))
            self._send(client, chance, self._connect(chance, name) + self._first_bytes(chance, name))
        else:
            name = chance.choice(NAMES[:4])
            client.send(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n".encode())
            answer = client.answer("CONNECT")
            assert answer is not None
            assert answer.status == 200, f"the tunnel to {name} was refused: {answer}"
            self._stage.secure(client, name)
            self._send(client, chance, self._requests(chance, _INSIDE))
        return f"{way} {self._end(client, chance)}"

    def _requests(self, chance: Random, seeds: Sequence[bytes]) -> bytes:
        parts = (
            chance.choice(seeds) if chance.random() < 0.3 else mutate(chance, seeds, _WORDS)
            for _ in range(chance.choice((1, 1, 1, 2, 4)))
        )
        return b"".join(parts)

    def _connect(self, chance: Random, name: str) -> bytes:
        head = f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n".encode()
        return head if chance.random() < 0.6 else mutate(chance, (head,), _WORDS)

    def _first_bytes(self, chance: Random, name: str) -> bytes:
        own = self._hellos.get(name, self._all_hellos[-1])
        mutant = mutate(chance, (own,) if chance.random() < 0.5 else self._all_hellos, _WORDS)
        other = chance.choice((chance.choice(self._all_hellos), self._requests(chance, _INSIDE), chance.randbytes(50)))
        return chance.choice((own, own, mutant, fitted(mutant), other))

    def _send(self, client: Client, chance: Random, data: bytes) -> None:
        cuts = cuts_of(chance, data, chance.choice((0, 0, 1, 3, 12)))
        starts = [0, *cuts]
        client.send(*(data[start:end] for start, end in zip(starts, [*cuts, len(data)], strict=True) if end > start))

    def _end(self, client: Client, chance: Random) -> str:
        """Leave, or say no more and read to the end, which must come."""
        how = chance.choice(("reads", "reads", "reads", "leaves", "resets"))
        if how == "resets":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        if chance.random() < 0.7:
            client.wait(chance.choice((0.01, 0.05, 0.2)))
        if how == "reads":
            client.say_no_more()
            client.rest()
            assert b"egress-canary" not in client.received, "the client was shown the key"
        return how

    # what must hold at the end

    def _good(self, when: str) -> None:
        try:
            for way in Way:
                with self._stage.client(way) as client:
                    scheme = f"http://{HOST}" if way is Way.PLAIN else ""
                    client.send(f"GET {scheme}/good HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                    answer = client.answer()
                    assert answer is not None
                    assert answer.status == 200
        except (OSError, AssertionError) as error:
            self._found(f"a good request is not served {when}: {error!r}")

    def _descriptors(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self._stage.proxy.family())

    def _settled(self, descriptors: int, memory: int) -> None:
        deadline = time.monotonic() + 10
        while (now := self._descriptors()) > descriptors + _SPARE:
            if time.monotonic() > deadline:
                self._found(f"{now} descriptors are open, {descriptors} were before")
                break
            time.sleep(0.1)
        grown = self._stage.proxy.resident() - memory
        if grown > _ROOM:
            self._found(f"memory has grown by {grown >> 20} MB")

    def _check_log(self) -> None:
        if not self._stage.proxy.alive:
            self._found("the process has ended")
        lines = self._stage.proxy.log.splitlines()
        broken = [line for line in lines if " ERROR " in line or " CRITICAL " in line or "Traceback" in line]
        if broken:
            self._found(f"{len(broken)} errors in the log: {broken[:3]}")

    def _check_origins(self) -> None:
        if self._stage.denied.connections:
            self._found("a host that no rule allows was dialled")
        for seen in tuple(self._stage.tunnelled.connections):
            self.tally.tunnels += 1
            hello = parse_client_hello(bytes(seen.received))
            if not isinstance(hello, NeedMore) and not (isinstance(hello, ClientHello) and hello.sni == TUNNELLED):
                self._found(f"a tunnel carries something else than its own hello: {bytes(seen.received[:80])!r}")
        for seen in tuple(self._stage.origin.connections):
            try:
                self.tally.requests += requests_in(bytes(seen.received))
            except AssertionError as error:
                self._found(f"the origin got {error}")
        allowed = self._stage.allowed()
        if self.tally.requests > allowed:
            self._found(f"the origin got {self.tally.requests} requests, the audit allowed {allowed}")


def requests_in(data: bytes) -> int:
    """How many requests are in what an origin has received; fails on one that is malformed or for another host."""
    count = 0
    while data:
        head = parse_request_head(data)
        if not isinstance(head, RequestHead):
            assert not isinstance(head, Reject), f"a malformed request: {data[:200]!r}"
            return count
        count += 1
        assert head.target.form in (TargetForm.ORIGIN, TargetForm.ASTERISK), f"a target for a proxy: {data[:200]!r}"
        assert head.host in (HOST, GET_ONLY), f"a request for {head.host}"
        data = data[head.length :]
        if head.upgrade:
            return count
        if isinstance(head.framing, ContentLength):
            data = data[head.framing.length :]
        elif isinstance(head.framing, Chunked):
            checker = ChunkedChecker()
            assert checker.feed(data) is None, f"a malformed body: {data[:200]!r}"
            data = data[checker.consumed :]
    return count

"""A proxy whose parts break as a file says, and clients that ask it for what its policy allows."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.frames import Http2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess, Row
    from harness.world import World

POLICY = """\
version: 1
default: deny
secrets:
  key: {env: EGRESS_TEST_KEY, hosts: [allowed.test]}
rules:
  - allow: allowed.test:443
    inject: {Authorization: "Bearer ${key}"}
  - allow: allowed.test:80
  - allow: closed.allowed.test:443
    tls: tunnel
  - allow: raw.allowed.test:8080
    protocol: tcp
"""
CONFIG = """\
audit: {flush_interval: 0.02}
limits:
  {drain_seconds: 1, head_seconds: 1.5, resolve_seconds: 1, connect_seconds: 1, tls_seconds: 1, idle_seconds: 1,
   audit_seconds: 0.2}
"""
ENVIRONMENT = {"EGRESS_TEST_KEY": "k" * 20}
SCRIPT = Path(__file__).parents[1] / "faulty_proxy.py"
PATIENCE = 4.0

# The lane that carries a way in, where none is forced.
LANES = {"tls": "http", "post": "http", "plain": "http", "h2": "mitm", "closed": "tunnel", "raw": "tunnel"}
# What is carried unread, so that no byte at all may arrive.
CLOSED = ("closed", "raw")


@dataclass(frozen=True)
class Attempt:
    """What one client's try came to: requests and bytes at origins, bytes at the client."""

    source: str
    arrived: list[bytes]
    got: bytes

    @property
    def passed(self) -> bool:
        """Whether the request went through and its answer came back."""
        return bool(self.arrived) and b"ok allowed" in self.got


class Broken:
    """Each of `points` works until told otherwise, and so does each hook of the mitm lane. `lane`: forced, or auto."""

    def __init__(self, world: World, folder: Path, points: Iterable[str], lane: str = "auto") -> None:
        self.world, self.lane = world, lane
        self._switch = folder / "switch"
        self._switch.write_text("")
        words = tuple(word for point in points for word in ("--point", point))
        options = ("--switch", str(self._switch), *words, "--hook-seconds", "0.7", "--slack-seconds", "0.2", "--")
        self.proxy: ProxyProcess = world.start(
            POLICY,
            command=(sys.executable, str(SCRIPT), *options),
            config=CONFIG,
            env=ENVIRONMENT,
            extra=("--lane", lane),
        )
        assert self.proxy.address

    def set(self, fault: str) -> None:
        """Break one thing; the empty string mends all."""
        new = self._switch.with_suffix(".new")
        new.write_text(fault)
        new.rename(self._switch)

    def attempt(self, fault: str, way: str, *, kept: bool = False) -> Attempt:
        """One client's try under this fault. `kept`: an upstream connection that is open already may carry it."""
        world = self.world
        if not kept:
            world.origins.drop()
        self.set(fault)
        connections, _, _ = world.marks()
        source = world.fresh_client()
        with world.attacker(self.proxy, source) as client:
            WAYS[way](client)
            client.abort()
            client.drain(0.05)
            got = client.answers.everything
        world.settle(connections)
        opened = way not in CLOSED
        seen = [bytes(one.received if opened else one.raw + one.received) for one in world.origins.since(connections)]
        self.set("")
        assert self.proxy.alive
        return Attempt(source, [data for data in seen if data], got)

    def mended(self, way: str = "plain") -> bool:
        """Without a fault the request passes, so that its absence before proves something."""
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            if self.attempt("", way).passed:
                return True
        return False

    def rows(self, attempt: Attempt) -> list[Row]:
        """The rows of a try, as soon as all of them have ended."""

        def enough(rows: list[Row]) -> bool:
            return bool(rows) and all(row["state"] == "done" for row in rows)

        return self.proxy.wait_rows(attempt.source, enough, patience=6)


def over_tls(client: Attacker, host: str = "allowed.test") -> None:
    """A request in TLS in a tunnel."""
    if client.connect(f"{host}:443") and client.handshake(host):
        client.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        client.response(patience=PATIENCE)


def over_http2(client: Attacker) -> None:
    """The same in HTTP/2."""
    if client.connect("allowed.test:443") and client.handshake("allowed.test", ["h2"]):
        http2 = Http2(client)
        head = [(":method", "GET"), (":scheme", "https"), (":authority", "allowed.test"), (":path", "/x")]
        http2.request(1, head)
        client.answers.inside += bytes(http2.wait(1).body)


def plain(client: Attacker) -> None:
    """A request in the clear."""
    client.send(b"GET http://allowed.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    client.response(patience=PATIENCE)


def post(client: Attacker) -> None:
    """A request whose body comes after its head, in two pieces."""
    if client.connect("allowed.test:443") and client.handshake("allowed.test"):
        client.segments([b"POST /x HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 8\r\n\r\n", b"body", b"body"])
        client.response(patience=PATIENCE)


def raw(client: Attacker) -> None:
    """Bytes in a tunnel that no lane reads."""
    if client.connect("raw.allowed.test:8080"):
        client.send(b"get /x\r\n\r\n")
        client.response(patience=PATIENCE)


WAYS: dict[str, Callable[[Attacker], None]] = {
    "tls": over_tls,
    "h2": over_http2,
    "plain": plain,
    "post": post,
    "closed": lambda client: over_tls(client, "closed.allowed.test"),
    "raw": raw,
}

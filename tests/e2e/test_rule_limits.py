"""Limits of rules through the real proxy, with more than one process that counts, in each lane alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.origins import Stream
    from harness.world import World

REQUESTS, BYTES = 5, 100_000
POLICY = f"""\
version: 1
rules:
  - name: "few"
    allow: allowed.test
    paths: [/few]
    limits: {{requests: {REQUESTS}/h, concurrent: 50, burst: {REQUESTS}}}
  - name: little
    allow: allowed.test
    paths: [/little]
    limits: {{download: {BYTES}B/h}}
"""


@pytest.fixture(params=["", "mitm"], ids=["least", "mitm"])
def laned(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    """The world, with one lane or the other."""
    with world.carried_by(request.param):
        yield world


def ask(world: World, path: str) -> tuple[int, bytes]:
    """One GET on a connection of its own; its status (0: none) and all that came inside."""
    proxy = world.proxy(POLICY)
    with world.attacker(proxy) as client:
        assert client.connect("allowed.test:443")
        assert client.handshake("allowed.test")
        client.send(f"GET {path} HTTP/1.1\r\nHost: allowed.test\r\n\r\n".encode())
        client.response()
        return (client.answers.statuses or [0])[-1], bytes(client.answers.inside)


def test_no_more_requests_pass_than_the_limit_whoever_counts(laned: World) -> None:
    """Each connection may reach another worker, and the limit means the same; the refusal says when to come again."""
    proxy = laned.start(POLICY, extra=("--workers", "3"))
    tally: Counter[int] = Counter()
    refused = b""
    for _ in range(3 * REQUESTS):
        with laned.attacker(proxy) as client:
            assert client.connect("allowed.test:443")
            assert client.handshake("allowed.test")
            client.send(b"GET /few HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
            client.response()
            tally[(client.answers.statuses or [0])[-1]] += 1
            refused = bytes(client.answers.inside)
    assert tally == {200: REQUESTS, 429: 2 * REQUESTS}
    assert b"limit-requests" in refused
    assert b"retry-after: " in refused.lower()
    rows = proxy.wait_rows("", lambda rows: len(rows) >= 3 * REQUESTS)
    assert Counter((row["verdict"], row["reason"]) for row in rows) == {
        ("allow", "rule-allow"): REQUESTS,
        ("deny", "limit-requests"): 2 * REQUESTS,
    }
    proxy.close()


def test_no_more_bytes_pass_than_the_limit(laned: World) -> None:
    """The answer in which it is reached ends there, and the next request is refused."""

    def much(stream: Stream) -> None:
        while stream.request():
            stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000))

    with laned.origins.behaving(much):
        answers = [ask(laned, "/little") for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    passed = sum(len(data.partition(b"\r\n\r\n")[2]) for _, data in answers[:2])
    assert BYTES * 0.95 <= passed <= BYTES

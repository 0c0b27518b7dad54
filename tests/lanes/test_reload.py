"""Reload while connections are open: what the new policy denies is cut, everything else goes on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, RAW, TUNNELLED, Site, make_site, policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy

# What the policy denies is closed within a second, by the words of the guide; a busy machine gets some more.
CUT_SECONDS = 4.0


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


def test_a_tunnel_that_is_denied_is_cut_and_another_goes_on(site: Site) -> None:
    """One of two open tunnels loses its rule."""
    gate = threading.Event()

    def slow(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        gate.wait(5)
        stream.send(b"done")

    ca = site.origin._authority.ca_file.read_bytes()
    with site.origin.behaving(slow), site.proxy.inside(TUNNELLED, site.port, "http/1.1", ca=ca) as doomed:
        doomed.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wire, reply = site.proxy.tunnel(RAW, site.port)
        with wire:
            assert reply.status == 200
            wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert doomed.until(b"half") is not None
            assert wire.until(b"half") is not None
            after = policy(site.port).replace("{name: a tunnel, allow:", "{name: a tunnel, deny:")
            after = after.replace("tls: tunnel, addresses: [127.0.0.0/8]}", "}")
            assert site.proxy.reload(after) == 1
            assert b"done" not in doomed.rest()
            gate.set()
            assert wire.exactly(4) == b"done"
    rows = {row.host: site.proxy.ledger.outcome(row) for row in site.proxy.ledger.wait(2)}
    assert (rows[TUNNELLED].error or "").startswith("policy-reload")
    assert rows[RAW].error is None


def test_a_download_that_is_denied_is_cut(site: Site) -> None:
    """In the middle of its body; the upstream is let go too."""

    def endless(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            stream.send(b"5\r\nmore\n\r\n")
            threading.Event().wait(0.02)

    with site.origin.behaving(endless), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        assert wire.until(b"more") is not None
        assert site.proxy.reload("version: 1\nrules: []\n") == 1
        wire.rest()
    outcome = site.proxy.ledger.only()[1]
    assert (outcome.error or "").startswith("policy-reload")
    site.proxy.until(site.origin.connections[0].closed.is_set, "the upstream to be let go")


def kept(site: Site) -> bytes:
    """A request for the connection that is kept."""
    return f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()


def test_a_kept_connection_that_is_denied_is_cut(site: Site) -> None:
    """Nothing is under way on it: it ends all the same, with a row of its own, and the other row is as it was."""
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(kept(site))
        assert wire.reply().status == 200
        site.proxy.ledger.wait(1)
        assert site.proxy.reload("version: 1\nrules: []\n") == 1
        assert wire.rest() == b""
    first, second = site.proxy.ledger.wait(2)
    assert (first.verdict, site.proxy.ledger.outcome(first).error) == ("allow", None)
    assert (second.verdict, second.reason, second.host) == ("deny", "host-not-allowed", HOST)
    assert second.policy_hash == site.proxy.gate.generation.policy.digest != first.policy_hash
    assert (site.proxy.ledger.outcome(second).error or "").startswith("policy-reload")
    assert site.received.count(b"GET /") == 1


def test_a_kept_connection_whose_host_is_still_allowed_goes_on_under_the_new_policy(site: Site) -> None:
    """It is not touched, and its next request is judged anew."""
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(kept(site))
        assert wire.reply().status == 200
        site.proxy.ledger.wait(1)
        only_posts = policy(site.port).replace("protocol: [https, wss]", "protocol: [https, wss]\n    methods: [POST]")
        assert site.proxy.reload(only_posts) == 0
        wire.send(kept(site))
        reply = wire.reply()
    assert (reply.status, reply.reason) == (403, "method-not-allowed")
    assert site.received.count(b"GET /") == 1


def test_a_client_that_speaks_to_the_proxy_itself_is_not_cut(site: Site) -> None:
    """Its connection leads to no destination: each of its requests is judged by the policy in force."""
    with site.proxy.connect() as wire:
        request = f"GET http://{HOST}:{site.port}/ HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()
        wire.send(request)
        assert wire.reply().status == 200
        site.proxy.ledger.wait(1)
        assert site.proxy.reload("version: 1\nrules: []\n") == 0
        wire.send(request)
        assert wire.reply().reason == "host-not-allowed"


def test_an_event_stream_that_is_denied_is_cut_and_another_goes_on(site: Site) -> None:
    """Server-sent events: an answer that never ends, on a connection that is kept; within a second."""

    def events(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(500):
            stream.send(f"data: {number}\n\n".encode())
            threading.Event().wait(0.02)

    with (
        site.origin.behaving(events),
        site.proxy.inside(HOST, site.port, "http/1.1") as doomed,
        site.proxy.connect() as on,
    ):
        doomed.send(kept(site))
        on.send(f"GET http://{HOST}:{site.port}/ HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        for wire in (doomed, on):
            assert wire.until(b"data: 1\n") is not None
        started = time.monotonic()
        assert site.proxy.reload(policy(site.port).replace("protocol: [https, wss]", "protocol: [wss]")) == 1
        doomed.rest()
        assert time.monotonic() - started < CUT_SECONDS
        assert on.until(b"data: 9\n") is not None
        row = next(row for row in site.proxy.ledger.decisions if row.scheme == "https")
        assert (site.proxy.ledger.outcome(row).error or "").startswith("policy-reload")


def test_a_pooled_connection_is_judged_again(site: Site) -> None:
    """Its address may have lost its permission although the name is still allowed."""
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        request = f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()
        wire.send(request)
        assert wire.reply().status == 200
        site.proxy.ledger.wait(1)
        site.proxy.reload(policy(site.port).replace("addresses: [127.0.0.0/8]", "addresses: [10.0.0.0/8]"))
        wire.send(request)
        reply = wire.reply()
    assert (reply.status, reply.reason) == (403, "address-not-public")
    assert site.received.count(b"GET /") == 1

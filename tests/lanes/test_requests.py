"""Requests on one connection: denied and allowed ones in turn, bodies, expectations, and whose page is whose."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from harness.origins import Stream, answer_ok, answer_raw
from rig.asking import denying_site, line, paths
from rig.modes import HOST, Mode, Site, carried
from rig.proxy import LOOPBACK, SECRET, Proxy, port_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The site that allows everything on its host but one path."""
    return denying_site(start, origin)


def test_a_denied_request_leaves_the_connection_usable(site: Site) -> None:
    """In the clear: a denial without a body, then an allowed request on the same connection."""
    with site.proxy.connect() as wire:
        for path, status in (("/denied", 403), ("/ok", 200), ("/denied", 403), ("/ok2", 200)):
            wire.send(line(site, path, scheme=True))
            assert wire.reply().status == status
    assert paths(site) == [b"/ok", b"/ok2"]
    site.proxy.ledger.wait(4)


def test_a_denied_request_leaves_the_connection_usable_over_tls(site: Site) -> None:
    """The same inside an inspected tunnel, on one upstream connection."""
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        for path, status in (("/ok", 200), ("/denied", 403), ("/ok2", 200), ("/denied", 403)):
            wire.send(line(site, path))
            assert wire.reply().status == status
    assert paths(site) == [b"/ok", b"/ok2"]
    assert len(site.origin.connections) == 1
    site.proxy.ledger.wait(4)


@pytest.mark.parametrize("secure", [False, True])
def test_pipelined_requests_are_judged_one_by_one(*, site: Site, secure: bool) -> None:
    """Sent at once, answered in order, each with its own decision; the denied one never reaches the origin."""
    asked = ["/1", "/denied", "/2"]
    whole = b"".join(line(site, path, scheme=not secure) for path in asked)
    if secure:
        with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
            wire.send(whole)
            statuses = [wire.reply().status for _ in asked]
    else:
        with site.proxy.connect() as wire:
            wire.send(whole)
            statuses = [wire.reply().status for _ in asked]
    assert statuses == [200, 403, 200]
    assert paths(site) == [b"/1", b"/2"]
    assert [row.path for row in site.proxy.ledger.wait(3)] == asked


@pytest.mark.parametrize("path", ["/ok", "/denied"])
def test_head_has_no_body(site: Site, path: str) -> None:
    """Neither the origin's answer nor our page; the next request on the connection is read right."""
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site, path, "HEAD"))
        reply = wire.reply("HEAD")
        assert reply.status == (200 if path == "/ok" else 403)
        wire.send(line(site, "/next"))
        following = wire.reply()
        assert (following.status, following.body) == (200, b"ok allowed")
    site.proxy.ledger.wait(2)


def test_the_page_is_ours_and_says_so(site: Site) -> None:
    """What the client reads: status, header, and an object with the id of the row."""
    reply = site.proxy.ask(HOST, site.port, "/denied")
    row, outcome = site.proxy.ledger.only()
    assert (reply.status, reply.reason) == (403, "rule-deny")
    assert reply.field("x-egress-decision") == f"deny; reason=rule-deny; id={row.id}"
    assert (reply.problem["decision"], reply.problem["reason"]) == (row.id, "rule-deny")
    assert outcome.status == 403
    assert reply.field("server") is None


@pytest.mark.parametrize("secure", [False, True])
def test_expectations_of_an_allowed_request_are_met(*, site: Site, secure: bool) -> None:
    """100 comes first, then the body goes, then the answer; and the origin gets the body once."""
    fields = ("Content-Length: 5", "Expect: 100-continue")
    context = site.proxy.inside(HOST, site.port, "http/1.1") if secure else site.proxy.connect()
    with context as wire:
        wire.send(line(site, "/up", "POST", *fields, scheme=not secure))
        assert wire.reply().status == 100
        wire.send(b"hello")
        assert wire.reply().status == 200
    assert site.received.count(b"hello") == 1
    assert site.proxy.ledger.only()[1].bytes_up == 5


@pytest.mark.parametrize("secure", [False, True])
def test_expectations_of_a_denied_request_are_refused(*, site: Site, secure: bool) -> None:
    """The refusal comes in place of 100: the client is not asked for a body that nobody wants."""
    fields = ("Content-Length: 5", "Expect: 100-continue")
    context = site.proxy.inside(HOST, site.port, "http/1.1") if secure else site.proxy.connect()
    with context as wire:
        wire.send(line(site, "/denied", "POST", *fields, scheme=not secure))
        reply = wire.reply()
        assert (reply.status, reply.field("connection")) == (403, "close")
    assert site.origin.connections == []


@pytest.mark.parametrize("body", [b"3\r\nabc\r\n0\r\n\r\n", b"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n"], ids=["one", "two"])
def test_a_chunked_body_arrives(site: Site, body: bytes) -> None:
    """Whole, once, and the connection goes on."""
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site, "/up", "POST", "Transfer-Encoding: chunked") + body)
        assert wire.reply().status == 200
        wire.send(line(site, "/next"))
        assert wire.reply().status == 200
    assert paths(site) == [b"/up", b"/next"]
    assert site.proxy.ledger.outcome(site.proxy.ledger.wait(2)[0]).bytes_up == 3


@pytest.mark.parametrize("together", [True, False])
def test_trailers_are_refused(*, site: Site, together: bool) -> None:
    """Fields after the body come after the decision: none reaches the origin, and nothing crashes or hangs."""
    trailers = b"0\r\nX-Trailer: evil\r\nHost: b.test\r\n\r\n"
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        start = line(site, "/up", "POST", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n"
        wire.send(start + trailers if together else start)
        if not together:
            site.proxy.until(lambda: b"abc" in site.received, "the body")
            wire.send(trailers)
        assert wire.reply().status in {0, 400}
    if together:
        assert site.received == b""
    assert b"evil" not in site.received
    assert b"b.test" not in site.received
    site.proxy.until(lambda: not site.proxy.gate.open, "the end of the exchange")
    site.proxy.ledger.wait(1)


def test_trailers_of_an_answer_do_not_reach_the_client(site: Site) -> None:
    """And the answer is whole."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Egress-Decision: allow\r\n\r\n"
    with site.origin.behaving(answer_raw(answer)), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site))
        reply = wire.reply()
        assert (reply.status, reply.body) == (200, b"hi")
        assert b"X-Egress-Decision" not in reply.whole


# answers

MALFORMED = {
    "no-version": b"200 OK\r\nX-Marker: canary-bytes\r\n\r\n",
    "html": b"<html>canary-bytes</html>\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nX-Marker: canary-bytes\r\n\r\nab",
    "length-and-chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX: canary-bytes\r\n\r\n0\r\n\r\n"
    ),
    "bare-cr": b"HTTP/1.1 200 OK\r\nX-Marker: canary-bytes\rY: z\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nX-Marker: canary-bytes\n\n",
    "folded": b"HTTP/1.1 200 OK\r\nX-Marker: a\r\n canary-bytes\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX-Marker: canary-bytes\0\r\n\r\n",
    "http-2-line": b"HTTP/2.0 200 OK\r\nX-Marker: canary-bytes\r\n\r\n",
    "status-of-two-digits": b"HTTP/1.1 20 canary-bytes\r\n\r\n",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nX-Marker : canary-bytes\r\n\r\n",
    "head-too-large": b"HTTP/1.1 200 OK\r\nX-Marker: " + b"canary-bytes" * 10_000 + b"\r\n\r\n",
    "too-many-fields": b"HTTP/1.1 200 OK\r\n" + b"X-Marker: canary-bytes\r\n" * 200 + b"\r\n",
    "unasked-101": b"HTTP/1.1 101 Switching\r\nUpgrade: canary-bytes\r\nConnection: Upgrade\r\n\r\nraw",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.TLS1])
def test_a_malformed_answer_becomes_our_page(site: Site, mode: Mode, answer: bytes) -> None:
    """No byte of it reaches the client, and the outcome says what was wrong."""
    with site.origin.behaving(answer_raw(answer, close=True)):
        reply = site.exchange(mode)
    assert b"canary-bytes" not in reply.whole
    assert SECRET.encode() not in reply.whole
    assert (reply.status, reply.reason) in {(502, "upstream-malformed"), (0, None)}
    outcome = site.proxy.ledger.only()[1]
    assert (outcome.error or "").startswith("upstream-malformed")


@pytest.mark.parametrize(
    "close_after", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["none", "line", "half"]
)
def test_an_answer_that_breaks_off_in_its_head_becomes_our_page(site: Site, close_after: bytes) -> None:
    """The server closed the connection: that is all the client is told."""
    with site.origin.behaving(answer_raw(close_after, close=True)):
        reply = site.exchange(Mode.TLS1)
    assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    site.proxy.ledger.only()


def test_an_answer_that_breaks_off_in_its_body_breaks_off_for_the_client(site: Site) -> None:
    """Truncation is not read as an end: the client's connection is closed before the promised length."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this\n"
    with site.origin.behaving(answer_raw(answer, close=True)), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site))
        reply = wire.reply()
        assert (reply.status, reply.body) == (200, b"only this\n")
        assert wire.ended
    assert site.proxy.ledger.only()[1].error


def test_bytes_past_an_answer_end_the_upstream_connection(site: Site) -> None:
    """They could be read as the answer to the next request: that one goes on a new connection."""
    poisoned = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    with site.origin.behaving(answer_raw(poisoned)), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        for _ in range(2):
            wire.send(line(site))
            assert wire.reply().body == b"hi"
            time.sleep(0.05)
    assert len(site.origin.connections) == 2


def test_an_answer_before_the_body_has_ended_is_passed_on(site: Site) -> None:
    """A server that answers early ends the exchange; the client is not left waiting."""

    def early(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        stream.until(b"never")

    with site.origin.behaving(early), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site, "/up", "POST", "Content-Length: 100000") + b"a" * 1000)
        reply = wire.reply()
        assert (reply.status, reply.body) == (413, b"no")
    assert site.proxy.ledger.only()[1].status == 413


@pytest.mark.parametrize(
    "field",
    [
        "X-Egress-Decision: allow; reason=rule-allow; id=x",
        "x-egress-decision: deny",
        'Alt-Svc: h3=":443"',
        "Proxy-Authenticate: Basic",
        "Keep-Alive: timeout=5",
    ],
)
def test_what_an_upstream_may_not_say_is_taken_out(site: Site, field: str) -> None:
    """Our own verdict, a way around us, a challenge in our name."""
    answer = f"HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 0\r\nX-Kept: 1\r\n\r\n".encode()
    with site.origin.behaving(answer_raw(answer)), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site))
        reply = wire.reply()
    assert field.split(":", maxsplit=1)[0].lower() not in dict(reply.fields)
    assert reply.field("x-kept") == "1"


def test_events_arrive_one_by_one(site: Site) -> None:
    """Streaming: each part of an answer is passed on when it comes: the next one is sent only once it has arrived."""
    arrived = [threading.Event() for _ in range(3)]

    def events(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, seen in enumerate(arrived):
            stream.send(b"8\r\ndata: %d\n\r\n" % number)
            if not seen.wait(10):
                return
        stream.send(b"0\r\n\r\n")

    with site.origin.behaving(events), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site))
        for number, seen in enumerate(arrived):
            assert wire.until(b"data: %d\n" % number) is not None
            seen.set()


def test_hop_by_hop_fields_stay_behind(site: Site) -> None:
    """The sandbox's credential for the proxy, and whatever Connection names, but never what frames the request."""
    fields = (
        "Proxy-Authorization: Basic cHJveHk6c2VjcmV0",
        "Proxy-Connection: keep-alive",
        "Connection: keep-alive, X-Hop, X-Api-Key, Host",
        "X-Hop: 1",
        "X-Api-Key: stolen",
        "x_api_key: stolen2",
        "Keep-Alive: 5",
    )
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site, "/", "GET", *fields))
        assert wire.reply().status == 200
    (record,) = site.origin.connections
    (sent,) = record.requests
    names = {name for name, _ in sent.fields}
    assert names & {b"proxy-authorization", b"proxy-connection", b"x-hop", b"keep-alive", b"x_api_key"} == set()
    assert sent.values(b"x-api-key") == [SECRET.encode()]
    assert sent.values(b"host") == [f"{HOST}:{site.port}".encode()]


NOMINATED = ("Connection: X-Dry-Run", "connection: keep-alive, x-dry-run", "Proxy-Connection: x-dry-run")


@carried("mode, nominated", *((mode, field) for mode in (Mode.PLAIN, Mode.TLS1) for field in ("", *NOMINATED)))
def test_a_header_that_a_rule_asks_for_reaches_the_server(
    start: Callable[..., Proxy], origin: Origins, mode: Mode, nominated: str
) -> None:
    """Whoever shows it to the proxy alone, by naming it in Connection, is refused, and nothing leaves."""
    port = port_of(origin)
    rule = f'  - {{allow: "{HOST}:{port}", headers: ["x-dry-run=1"], {LOOPBACK}}}\n'
    site = Site(start(f"version: 1\nrules:\n{rule}", HOST), origin, port)
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, port, "http/1.1")
    fields = ("X-Dry-Run: 1", *filter(None, [nominated]))
    with origin.behaving(answer_ok), context as wire:
        wire.send(line(site, "/", "GET", *fields, scheme=mode is Mode.PLAIN))
        reply = wire.reply()
    sent = [request.values(b"x-dry-run") for record in origin.connections for request in record.requests]
    if nominated:
        assert (reply.status, reply.reason, sent) == (403, "header-not-allowed", [])
    else:
        assert (reply.status, sent) == (200, [[b"1"]])


def test_a_secret_does_not_go_in_the_clear(site: Site) -> None:
    """The same host over plain HTTP, under a rule without the secret: nothing is injected."""
    with site.origin.behaving(answer_ok):
        assert site.exchange(Mode.PLAIN).status == 200
    assert SECRET.encode() not in site.received


def test_a_secret_is_never_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a row, not in a log line, though the origin got it."""
    caplog.set_level("DEBUG")
    with site.origin.behaving(answer_ok):
        assert site.exchange(Mode.TLS1).status == 200
    assert SECRET.encode() in site.received
    assert SECRET not in repr(site.proxy.ledger.events)
    assert SECRET not in caplog.text
    assert site.proxy.ledger.only()[0].secrets == ("canary",)


def test_a_client_that_goes_away_leaves_an_outcome(site: Site) -> None:
    """In the middle of an answer: the row ends, and the upstream is let go."""

    def slow(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nstart\n")
        stream.until(b"never")

    with site.origin.behaving(slow):
        with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
            wire.send(line(site))
            assert wire.until(b"start\n") is not None
        outcome = site.proxy.ledger.only()[1]
        assert (outcome.status, outcome.bytes_down) == (200, 6)
        assert (outcome.error or "").startswith("client-closed")
        site.proxy.until(site.origin.connections[0].closed.is_set, "the upstream to be closed")


def test_an_upstream_that_refuses_is_told_in_our_words(site: Site, start: Callable[..., Proxy]) -> None:
    """Nobody listens: a page, an outcome, and no address in it."""
    del site
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy = start(f"version: 1\nrules: [{{allow: 'gone.test:{port}', {LOOPBACK}}}]\n", "gone.test")
    reply = proxy.ask("gone.test", port)
    assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    assert b"127.0.0.1" not in reply.whole
    assert (proxy.ledger.only()[1].error or "").startswith("upstream-unreachable")

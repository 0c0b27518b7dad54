"""Requests over HTTP/2, judged one by one; and what of HTTP/1 this lane does in its own way."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from harness.origins import Stream, answer_ok, answer_raw
from rig.asking import denying_site, line, paths
from rig.http2_origin import answer_http2
from rig.modes import HOST, Mode, Site, make_site
from rig.proxy import LOOPBACK, Proxy
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The site that allows everything on its host but one path."""
    return denying_site(start, origin)


def test_a_denied_request_leaves_the_connection_usable_over_http2(site: Site) -> None:
    """Each stream is judged anew; a denial ends its own stream only."""
    with site.origin.behaving(answer_http2, alpn=("h2",)), site.proxy.http2(HOST, site.port) as client:
        name = f"{HOST}:{site.port}"
        streams = [client.request(head(name, path)) for path in ("/a", "/denied", "/b", "/denied")]
        assert [client.reply(stream).status for stream in streams] == [200, 403, 200, 403]
    rows = site.proxy.ledger.wait(4)
    assert sorted(row.path or "" for row in rows if row.verdict == "deny") == ["/denied", "/denied"]


def test_a_denied_head_over_http2_has_no_body(site: Site) -> None:
    """The head alone ends the stream's answer."""
    with site.proxy.http2(HOST, site.port) as client:
        reply = client.reply(client.request(head(f"{HOST}:{site.port}", "/denied", "HEAD")))
        assert (reply.status, reply.body, reply.reason) == (403, b"", "rule-deny")


@pytest.mark.parametrize("upstream", ["h2", "http/1.1"])
def test_trailers_over_http2_are_refused(site: Site, upstream: str) -> None:
    """The stream ends with a page; the connection's other streams go on."""
    behave = answer_http2 if upstream == "h2" else answer_ok
    with site.origin.behaving(behave, alpn=(upstream,)), site.proxy.http2(HOST, site.port) as client:
        name = f"{HOST}:{site.port}"
        stream = client.request(head(name, "/up", "POST"), b"abc", end=False)
        client.connection.send_headers(stream, [("x-trailer", "evil")], end_stream=True)
        client.flush()
        reply = client.reply(stream)
        assert (reply.status, reply.reason) == (400, "request-malformed")
        assert client.reply(client.request(head(name, "/next"))).status == 200
    assert b"evil" not in b"".join(bytes(one.received) for one in site.origin.connections)
    site.proxy.ledger.wait(2)


SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: b.test\r\n\r\n"


def test_a_body_of_http2_is_one_body_at_an_http1_origin(site: Site) -> None:
    """Without a declared length it goes chunked: its bytes never stand where a second request would."""
    with site.proxy.http2(HOST, site.port) as client:
        reply = client.reply(client.request(head(f"{HOST}:{site.port}", "/up", "POST"), SMUGGLED))
        assert reply.status == 200
    assert paths(site) == [b"/up"]
    (record,) = site.origin.connections
    assert record.requests[0].values(b"transfer-encoding") == [b"chunked"]
    assert record.requests[0].values(b"content-length") == []


@pytest.mark.parametrize("length", ["0", "5", "500"])
def test_a_length_that_is_not_the_body_s_is_not_passed_on(site: Site, length: str) -> None:
    """An HTTP/2 content-length that lies: no byte of the body is read as another request."""
    with site.proxy.http2(HOST, site.port, strict=False) as client:
        fields = head(f"{HOST}:{site.port}", "/up", "POST", ("content-length", length))
        stream = client.connection.get_next_available_stream_id()
        client.connection.send_headers(stream, fields)
        # Around the client's own library, which would not send such a body.
        client.flush()
        data = len(SMUGGLED).to_bytes(3) + b"\x00\x01" + stream.to_bytes(4) + SMUGGLED
        client.wire.send(data)
        while not client.gone:
            client.pump()
            if client.connection.state_machine.state.name == "CLOSED":
                break
            if site.proxy.ledger.outcomes:
                break
    assert b"/admin" not in b" ".join(paths(site))
    site.proxy.until(lambda: not site.proxy.gate.open, "the end")


def test_many_streams_at_once_do_not_wait_for_each_other(site: Site) -> None:
    """Twenty streams to one HTTP/1.1 origin, of which none answers before all have asked."""
    together = threading.Barrier(20, timeout=8)

    def wait_for_all(stream: Stream) -> None:
        stream.request()
        together.wait()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        stream.receive()

    with site.origin.behaving(wait_for_all), site.proxy.http2(HOST, site.port) as client:
        streams = [client.request(head(f"{HOST}:{site.port}", f"/{number}")) for number in range(20)]
        assert [client.reply(stream).status for stream in streams] == [200] * 20
    site.proxy.ledger.wait(20)


def test_interim_answers_are_passed_over(site: Site) -> None:
    """100 and 103 before the answer: the client gets the final one."""
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    )
    with site.origin.behaving(answer_raw(answer)), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site))
        reply = wire.reply()
        assert (reply.status, reply.body) == (200, b"hi")
        wire.send(line(site))
        assert wire.reply().status == 200
    site.proxy.ledger.wait(2)


def test_many_failures_on_one_connection_do_not_use_it_up(site: Site, start: Callable[..., Proxy]) -> None:
    """Connections that were not opened are not counted as open: the 200th failure reads like the first."""
    del site
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy = start(f"version: 1\nrules: [{{allow: 'gone.test:{port}', {LOOPBACK}}}]\n", "gone.test")
    with proxy.http2("gone.test", port) as client:
        details = set()
        for _ in range(140):
            reply = client.reply(client.request(head(f"gone.test:{port}")))
            details.add(reply.problem["detail"])
    assert len(details) == 1, details


def test_the_site_of_these_tests_is_the_one_of_the_matrix(start: Callable[..., Proxy], origin: Origins) -> None:
    """Both make one exchange succeed in every mode, so that a refusal means something."""
    site = make_site(start, origin)
    for mode in Mode:
        with site.serving(mode):
            assert site.exchange(mode).status == 200

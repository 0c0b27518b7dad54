"""Tricks by which a client would get at an injected secret, or have it sent where it must not go: one a row.

Each is one request, over TLS through the lane; what the origin got of it is looked at, and what the client got back.
Others have files of their own: names that disagree in `test_one_name`, kept connections in `test_sharing`, redirects to
other hosts in `test_rewrite`, echoes in `test_reflection`, fields behind a body in `test_requests`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.http2_origin import answer_http2
from rig.modes import HOST, Mode, Site, carried
from rig.proxy import LOOPBACK, SECRET, port_of
from rig.websocket import KEY
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy

OTHER = "other.test"


@dataclass(frozen=True)
class Trick:
    """What a client sends besides an ordinary request's line and Host. `refused`: the reason code; None: it goes on.

    `line` None is an ordinary one; `body` follows the head.
    """

    rows: tuple[str, ...] = ()
    refused: str | None = None
    line: str | None = None
    body: str = ""


CHUNKED = "Transfer-Encoding: chunked"
TRICKS: dict[str, Trick] = {
    "nothing": Trick(),
    "nominated away": Trick(("Connection: authorization",)),
    "nominated away twice": Trick(("Connection: close, Authorization", "Connection: AUTHORIZATION")),
    "nominated by the proxy's own field": Trick(("Proxy-Connection: authorization",)),
    "an own value": Trick(("Authorization: Bearer mine",)),
    "an own value twice": Trick(("Authorization: Bearer mine", "Authorization: Basic mine")),
    "an own value in odd case": Trick(("aUTHORIZATION: Bearer mine",)),
    "an own value under a name of CGI": Trick(("Authorization_: mine", "_authorization: mine")),
    "an own value, and nominated away": Trick(("Authorization: mine", "Connection: authorization")),
    "a folded line": Trick(("X-A: 1", " Authorization: mine"), "request-malformed"),
    "a folded line with a tab": Trick(("X-A: 1", "\tAuthorization: mine"), "request-malformed"),
    "a space before the colon": Trick(("Authorization : mine",), "request-malformed"),
    "a bare line feed in a value": Trick(("X-A: 1\nAuthorization: mine",), "request-malformed"),
    "a bare carriage return in a value": Trick(("X-A: 1\rAuthorization: mine",), "request-malformed"),
    "trailers": Trick(("Trailer: Authorization", CHUNKED), "*", body="0\r\nAuthorization: mine\r\n\r\n"),
    "TRACE": Trick(refused="method-not-allowed", line="TRACE / HTTP/1.1"),
    "TRACE in lower case": Trick(refused="*", line="trace / HTTP/1.1"),
    "a method that overrides": Trick(("X-HTTP-Method-Override: TRACE",)),
    "an absolute URL of another host": Trick(refused="name-mismatch", line=f"GET https://{OTHER}/ HTTP/1.1"),
    "a Host of another host": Trick((f"Host: {OTHER}",), "request-malformed"),
    "an upgrade to HTTP/2": Trick(("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"), "upgrade-not-allowed"),
    "an upgrade to a WebSocket": Trick(
        ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"),
        "protocol-not-allowed",
    ),
    "an upgrade to what is made up": Trick(("Upgrade: raw", "Connection: Upgrade"), "upgrade-not-allowed"),
    "a second request behind a length": Trick(("Content-Length: 0", CHUNKED), "request-malformed"),
    "Max-Forwards": Trick(("Max-Forwards: 0",)),
    "a range": Trick(("Range: bytes=0-0", "Accept-Encoding: br")),
}


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A secret for one host; another host is allowed without it."""
    port = port_of(origin)
    policy = f"""
version: 1
secrets:
  canary: {{env: CANARY, hosts: ["{HOST}:{port}"]}}
rules:
  - {{allow: "{HOST}:{port}", protocol: https, inject: {{Authorization: "Bearer ${{canary}}"}}, {LOOPBACK}}}
  - {{allow: "{OTHER}:{port}", {LOOPBACK}}}
"""
    return Site(start(policy, HOST, OTHER, env={"CANARY": SECRET}), origin, port)


@carried("mode, name", *[(Mode.TLS1, name) for name in TRICKS])
def test_the_secret_goes_where_it_must_and_nowhere_else(mode: Mode, name: str, site: Site) -> None:
    """What goes on has the secret once, and no value of the client's beside it; what is refused never leaves."""
    trick = TRICKS[name]
    assert mode is Mode.TLS1
    rows = [trick.line or "GET / HTTP/1.1", f"Host: {HOST}:{site.port}", *trick.rows, "", trick.body]
    with site.origin.behaving(answer_ok), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send("\r\n".join(rows).encode())
        reply = wire.reply()
    assert SECRET.encode() not in reply.whole
    requests = [request for seen in site.origin.connections for request in seen.requests]
    if trick.refused is not None:
        assert trick.refused in ("*", reply.reason) or reply.status == 0
        assert reply.status >= 400 or reply.status == 0
        assert SECRET.encode() not in site.received or trick.refused == "*"
        return
    assert reply.status == 200
    (request,) = requests
    assert request.values(b"authorization") == [f"Bearer {SECRET}".encode()]
    assert b"mine" not in site.received
    assert site.received.count(SECRET.encode()) == 1


# Fields of an HTTP/2 request, in place of the ordinary ones where they have the same name.
TRICKS_OF_HTTP2: dict[str, tuple[list[tuple[str, str]], bool]] = {
    # -> whether it is refused
    "nothing": ([], False),
    "an own value": ([("authorization", "Bearer mine")], False),
    "an own value twice": ([("authorization", "mine"), ("authorization", "mine")], False),
    "nominated away": ([("connection", "authorization")], True),
    "a pseudo-header behind fields": ([("x-a", "1"), (":path", "/other")], True),
    "a second authority": ([(":authority", OTHER)], True),
    "a Host of another host": ([("host", OTHER)], True),
    "a made-up pseudo-header": ([(":authorization", "mine")], True),
    "a line break in a value": ([("x-a", "1\r\nauthorization: mine")], True),
    "a line break in a name": ([("x-a: 1\r\nauthorization", "mine")], True),
    "a name in upper case": ([("Authorization", "mine")], True),
    "a colon in a name": ([("authorization:x", "mine")], True),
    "a way to say chunked": ([("transfer-encoding", "chunked")], True),
    "an upgrade": ([("upgrade", "websocket")], True),
}


@carried("mode, name", *[(Mode.TLS2, name) for name in TRICKS_OF_HTTP2])
def test_the_same_holds_over_http2(mode: Mode, name: str, site: Site) -> None:
    """Its pseudo-headers are no way around either."""
    more, refused = TRICKS_OF_HTTP2[name]
    assert mode is Mode.TLS2
    with (
        site.origin.behaving(answer_http2, alpn=("h2",)),
        site.proxy.http2(HOST, site.port, strict=False) as client,
    ):
        reply = client.reply(client.request(head(f"{HOST}:{site.port}", "/", "GET", *more)))
    assert SECRET.encode() not in reply.whole
    requests = [request for seen in site.origin.connections for request in seen.requests]
    if refused:
        assert reply.status == 0 or reply.status >= 400
        assert not requests
        return
    assert reply.status == 200
    (request,) = requests
    assert [value for key, value in request if key == "authorization"] == [f"Bearer {SECRET}"]
    assert "mine" not in str(request)


def test_another_host_on_the_same_connection_gets_no_secret(site: Site) -> None:
    """In the clear and inside a tunnel of its own: a secret is for one host."""
    with site.origin.behaving(answer_ok):
        assert site.proxy.ask(OTHER, site.port).status == 200
        with site.proxy.inside(OTHER, site.port, "http/1.1") as wire:
            wire.send(f"GET / HTTP/1.1\r\nHost: {OTHER}:{site.port}\r\n\r\n".encode())
            assert wire.reply().status == 200
    assert SECRET.encode() not in site.received

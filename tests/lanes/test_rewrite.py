"""A rule's `rewrite` in every lane that looks inside: what the client sees, what goes up, what the record says.

The client speaks to the name that it asked for; the request goes where the rule sends it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.modes import Mode, carried
from rig.proxy import LOOPBACK, SECRET, port_of
from rig.rewriting import ASKED, EVERY, REACHED, ask, policy, reached, serving, went_up
from rig.websocket import KEY, echo, frame, receive_frame
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy


@pytest.fixture
def begin(start: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Start a proxy that knows an address for REACHED alone."""
    return lambda text: start(text, REACHED, env={"CANARY": SECRET})


@carried("mode", *EVERY)
def test_a_request_goes_where_its_rule_sends_it(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """Host, target, dial, SNI, certificate and secret are those of the rewritten host; the row has both names."""
    port = port_of(origin)
    proxy = begin(policy(port))
    with serving(origin, mode):
        assert ask(proxy, mode).status == 200
    assert went_up(origin, mode) == (f"{REACHED}:{port}", "/api/v1/chat?a=1", [f"Key {SECRET}"])
    (connection,) = reached(origin)
    assert (connection.tls, connection.sni) == (True, REACHED)
    row, outcome = proxy.ledger.only()
    assert (row.verdict, row.host, row.path, row.rule) == ("allow", ASKED, "/v1/chat", "model")
    assert row.rewritten == f"https://{REACHED}:{port}/api/v1/chat"
    assert f"`https://{REACHED}:{port}`" in (row.detail or "")
    assert "`gateway` (policy.yaml:10)" in (row.detail or "")
    assert (row.address, row.secrets) == ("127.0.0.1", ("canary",))
    assert (outcome.status, outcome.error) == (200, None)


@carried("mode", *EVERY)
def test_a_second_request_is_rewritten_as_the_first(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """What is kept of a connection's last request, and kept towards the upstream, is that of the rewritten one."""
    port = port_of(origin)
    proxy = begin(policy(port))
    with serving(origin, mode):
        if mode is Mode.TLS2:
            with proxy.http2(ASKED, 443) as client:
                replies = [client.reply(client.request(head(ASKED, f"/v1/{n}"))) for n in range(3)]
        else:
            target, wire = (f"http://{ASKED}", proxy.connect()) if mode is Mode.PLAIN else ("", None)
            if wire is None:
                tunnel, _ = proxy.tunnel(ASKED, 443)
                wire = proxy.secure(tunnel, ASKED, "http/1.1")
            with wire:
                replies = []
                for n in range(3):
                    wire.send(f"GET {target}/v1/{n} HTTP/1.1\r\nHost: {ASKED}\r\n\r\n".encode())
                    replies.append(wire.reply())
    assert [reply.status for reply in replies] == [200, 200, 200]
    (connection,) = reached(origin)
    assert len(connection.requests) == 3
    if mode is not Mode.TLS2:
        assert [each.line for each in connection.requests] == [f"GET /api/v1/{n} HTTP/1.1".encode() for n in range(3)]
        assert {tuple(each.values(b"host")) for each in connection.requests} == {(f"{REACHED}:{port}".encode(),)}


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_https_may_go_up_in_the_clear_where_the_rule_says_so(
    mode: Mode, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """`scheme: http` is the rule's own word; the client still speaks TLS to us."""
    port = port_of(origin)
    proxy = begin(policy(port, scheme="http", inject=""))
    with serving(origin, mode):
        assert ask(proxy, mode).status == 200
    assert went_up(origin, mode)[:2] == (f"{REACHED}:{port}", "/api/v1/chat?a=1")
    (connection,) = reached(origin)
    assert not connection.tls


def test_a_location_is_left_as_it_is(begin: Callable[..., Proxy], origin: Origins) -> None:
    """An answer is not rewritten: a redirect names what the server named."""
    proxy = begin(policy(port_of(origin)))

    def moved(stream: Stream) -> None:
        stream.request()
        stream.send(f"HTTP/1.1 302 Found\r\nLocation: https://{REACHED}/x\r\nContent-Length: 0\r\n\r\n".encode())

    with origin.behaving(moved):
        assert ask(proxy, Mode.TLS1).field("location") == f"https://{REACHED}/x"


def test_a_failure_is_told_of_the_name_that_was_asked(begin: Callable[..., Proxy], origin: Origins) -> None:
    """The page of an upstream that cannot be reached names what the client knows."""
    port = port_of(origin)
    proxy = begin(policy(port))
    origin.close()
    reply = ask(proxy, Mode.TLS1)
    assert (reply.status, reply.problem["destination"]) == (502, f"{ASKED}:443")


def test_a_websocket_is_rewritten_with_its_scheme(begin: Callable[..., Proxy], origin: Origins) -> None:
    """A handshake in the clear goes up over TLS, and messages pass."""
    proxy = begin(
        policy(port_of(origin), gateway=f'{{allow: "{REACHED}:{port_of(origin)}", protocol: wss, {LOOPBACK}}}')
    )
    with origin.behaving(echo), proxy.connect() as wire:
        fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13"
        wire.send(f"GET http://{ASKED}/v1/ws HTTP/1.1\r\nHost: {ASKED}\r\n{fields}\r\n\r\n".encode())
        assert wire.reply("CONNECT").status == 101
        wire.send(frame(b"hello"))
        assert receive_frame(wire) == b"hello"
        wire.send(frame(b"\x03\xe8", 8))
        receive_frame(wire)
    (connection,) = reached(origin)
    assert (connection.tls, connection.requests[0].line) == (True, b"GET /api/v1/ws HTTP/1.1")
    row, _ = proxy.ledger.only()
    assert (row.protocol, row.scheme) == ("ws", "http")
    assert row.rewritten == f"https://{REACHED}:{port_of(origin)}/api/v1/ws"


AFTER = [
    # what the new policy says -> how many connections it cuts
    (lambda text: text, 0),
    (lambda text: text.replace(f"allow: {ASKED}", "allow: other.test"), 1),
    (lambda text: text.replace(f'allow: "{REACHED}', 'allow: "other.test'), 1),
    (lambda text: text.replace("/api/v1}", "/api/v2}"), 1),
    (lambda text: text.replace("127.0.0.0/8", "10.0.0.0/8"), 1),
]


@pytest.mark.parametrize(("change", "cut"), AFTER)
def test_a_reload_cuts_what_it_would_not_send_there(
    change: Callable[[str], str], cut: int, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """Either name denied, another destination, an address that lost its rule: each ends what is under way."""
    text = policy(port_of(origin), inject="")
    proxy = begin(text)
    going = threading.Event()

    def slow(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        going.wait(5)
        stream.send(b"done")

    with origin.behaving(slow), proxy.inside(ASKED, 443, "http/1.1") as wire:
        wire.send(f"GET /v1/x HTTP/1.1\r\nHost: {ASKED}\r\n\r\n".encode())
        assert wire.until(b"half") is not None
        assert proxy.reload(change(text)) == cut
        going.set()
        assert (wire.until(b"done") is not None) == (not cut)


def test_a_tunnel_never_stands_for_a_request_that_would_be_rewritten(
    begin: Callable[..., Proxy], origin: Origins
) -> None:
    """`tls: auto` opens what a rewrite needs opened."""
    proxy = begin("version: 1\ntls: auto\n" + policy(port_of(origin)).split("version: 1", 1)[1])
    with origin.behaving(answer_ok):
        assert ask(proxy, Mode.TLS1).status == 200
    row, _ = proxy.ledger.only()
    assert row.method == "GET"

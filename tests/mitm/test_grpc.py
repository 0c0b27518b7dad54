"""gRPC through the mitm lane: told from other requests of HTTP/2, carried both ways at once, trailers and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.http2_origin import answer_grpc
from rig.modes import HOST
from rig.proxy import LOOPBACK, SECRET, port_of
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.wire import Http2

MESSAGE = b"\x00\x00\x00\x00\x05hello"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


def policy(port: int, *rules: str) -> str:
    """These rules, or one that allows gRPC alone and injects a secret."""
    own = f'allow: "{HOST}:{port}", protocol: grpc, inject: {{X-Api-Key: "${{canary}}"}}, {LOOPBACK}'
    lines = "".join(f"  - {{{rule}}}\n" for rule in rules or (own,))
    return f'version: 1\nsecrets: {{canary: {{env: CANARY, hosts: ["{HOST}:{port}"]}}}}\nrules:\n{lines}'


@pytest.fixture
def begin(start: Callable[..., Proxy], origin: Origins) -> Callable[..., Proxy]:
    """Start a proxy with rules in which HERE is the origin."""
    here = f'"{HOST}:{port_of(origin)}"'
    return lambda *rules: start(
        policy(port_of(origin), *[rule.replace("HERE", here) for rule in rules]), HOST, env={"CANARY": SECRET}
    )


def call(
    client: Http2, port: int, path: str = "/pkg.Service/Echo", method: str = "POST", *more: tuple[str, str]
) -> int:
    """Begin a call; the stream's number."""
    return client.request(head(f"{HOST}:{port}", path, method, *(more or GRPC)), end=False)


def test_a_call_passes_with_its_trailers(begin: Callable[..., Proxy], origin: Origins) -> None:
    """Two messages up, each answered while the request is still open; then the status, in trailers."""
    proxy, port = begin(), port_of(origin)
    with origin.behaving(answer_grpc, alpn=("h2",)), proxy.http2(HOST, port) as client:
        stream = call(client, port)
        for count in (1, 2):
            client.connection.send_data(stream, MESSAGE)
            client.flush()
            while len(client.streams[stream].body) < count * len(MESSAGE):
                client.pump()
                assert not client.gone
        client.connection.end_stream(stream)
        client.flush()
        reply = client.reply(stream)
    assert (reply.status, reply.body) == (200, MESSAGE * 2)
    assert dict(client.streams[stream].trailers) == {"grpc-status": "0", "grpc-message": "fine", "x-own": "1"}
    row, outcome = proxy.ledger.only()
    assert (row.protocol, row.scheme, row.method, row.path) == ("grpc", "https", "POST", "/pkg.Service/Echo")
    assert (row.secrets, row.lane) == (("canary",), "mitm")
    assert (outcome.status, outcome.bytes_up, outcome.bytes_down) == (200, 20, 20)
    fields = dict(origin.connections[0].requests[0])  # type: ignore[call-overload] -- of the HTTP/2 origin
    assert (fields["x-api-key"], fields["te"], fields["content-type"]) == (SECRET, "trailers", "application/grpc")


@pytest.mark.parametrize("begun", [1, 8, len(SECRET) - 1])
def test_a_guess_that_is_repeated_message_by_message_goes_on(
    begun: int, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """Were the right one alone to wait, a sandbox would learn a secret character by character."""
    proxy, port = begin(), port_of(origin)
    with origin.behaving(answer_grpc, alpn=("h2",)), proxy.http2(HOST, port) as client:
        stream = call(client, port)
        for guess in (SECRET[:begun], SECRET[: begun - 1] + "#"):
            before = len(client.streams[stream].body)
            client.connection.send_data(stream, b"\0" + len(guess).to_bytes(4) + guess.encode())
            client.flush()
            while len(client.streams[stream].body) < before + 5 + len(guess):
                client.pump()
                assert not client.gone
        client.connection.end_stream(stream)
        client.flush()
        assert client.reply(stream).body.endswith(guess.encode())


def test_an_answer_of_trailers_alone_passes(begin: Callable[..., Proxy], origin: Origins) -> None:
    """A call that fails at once has no body and no second head."""
    proxy, port = begin(), port_of(origin)
    with origin.behaving(answer_grpc, alpn=("h2",)), proxy.http2(HOST, port) as client:
        stream = call(client, port, "/pkg.Service/Fail")
        client.connection.end_stream(stream)
        client.flush()
        reply = client.reply(stream)
    assert (reply.status, reply.field("grpc-status")) == (200, "5")


WHICH = [
    # method, Content-Type -> whether that is gRPC
    ("POST", ("application/grpc",), True),
    ("POST", ("application/grpc+proto",), True),
    ("POST", ("Application/GRPC;charset=utf-8",), True),
    ("POST", ("application/grpc-web",), False),
    ("POST", ("application/grpc-web+proto",), False),
    ("POST", ("application/json",), False),
    ("POST", ("x; application/grpc",), False),
    ("GET", ("application/grpc",), False),
    ("POST", (), False),
]


@pytest.mark.parametrize(("method", "types", "grpc"), WHICH)
def test_a_rule_for_grpc_allows_nothing_else(
    method: str, types: tuple[str, ...], *, grpc: bool, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """By method and media type; what else the destination is asked stays here."""
    proxy, port = begin(), port_of(origin)
    fields = (("te", "trailers"), *(("content-type", each) for each in types))
    with origin.behaving(answer_grpc, alpn=("h2",)), proxy.http2(HOST, port) as client:
        stream = call(client, port, "/pkg.Service/Echo", method, *fields)
        client.connection.end_stream(stream)
        client.flush()
        reply = client.reply(stream)
    assert (reply.status, reply.reason) == ((200, None) if grpc else (403, "protocol-not-allowed"))
    assert len([each for each in origin.connections if each.requests]) == grpc


@pytest.mark.parametrize(("method", "types", "grpc"), WHICH)
def test_a_denial_of_grpc_refuses_nothing_else(
    method: str, types: tuple[str, ...], *, grpc: bool, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """A rule for https covers gRPC; a denial before it takes that out again."""
    port = port_of(origin)
    proxy = begin("deny: HERE, protocol: grpc", f"allow: HERE, protocol: https, http2: true, {LOOPBACK}")
    fields = (("te", "trailers"), *(("content-type", each) for each in types))
    with origin.behaving(answer_grpc, alpn=("h2",)), proxy.http2(HOST, port) as client:
        stream = call(client, port, "/pkg.Service/Echo", method, *fields)
        client.connection.end_stream(stream)
        client.flush()
        reply = client.reply(stream)
    assert (reply.status, reply.reason) == ((403, "rule-deny") if grpc else (200, None))


@pytest.mark.parametrize("types", [("application/grpc", "text/plain"), ("text/plain", "application/grpc+json")])
def test_two_media_types_of_which_one_is_grpc_are_refused(
    types: tuple[str, str], begin: Callable[..., Proxy], origin: Origins
) -> None:
    """Which of them a server believes is not known."""
    port = port_of(origin)
    proxy = begin(f"allow: HERE, {LOOPBACK}")
    with proxy.http2(HOST, port) as client:
        stream = call(client, port, "/x", "POST", *(("content-type", each) for each in types))
        client.connection.end_stream(stream)
        client.flush()
        assert client.reply(stream).reason == "request-malformed"
    assert origin.connections == []


def test_over_http1_nothing_is_grpc(begin: Callable[..., Proxy], origin: Origins) -> None:
    """Calls are made over HTTP/2 alone."""
    proxy, port = begin(), port_of(origin)
    with proxy.inside(HOST, port, "http/1.1") as wire:
        rows = f"Host: {HOST}:{port}\r\nContent-Type: application/grpc\r\nContent-Length: 0"
        wire.send(f"POST /pkg.Service/Echo HTTP/1.1\r\n{rows}\r\n\r\n".encode())
        assert wire.reply().reason == "protocol-not-allowed"
    assert origin.connections == []


def test_a_call_is_rewritten(start: Callable[..., Proxy], origin: Origins) -> None:
    """Calls go on as calls; in the clear they cannot go."""
    port = port_of(origin)
    text = f"""
version: 1
rules:
  - {{allow: model.test, protocol: grpc, rewrite: {{scheme: https, host: {HOST}, port: {port}}}}}
  - {{allow: clear.test, rewrite: {{scheme: http, host: {HOST}, port: {port}}}}}
  - {{allow: "{HOST}:{port}", {LOOPBACK}}}
"""
    proxy = start(text, HOST)
    for name, status in (("model.test", 200), ("clear.test", 403)):
        with origin.behaving(answer_grpc, alpn=("h2",)), proxy.http2(name, 443) as client:
            stream = client.request(head(name, "/pkg.Service/Echo", "POST", *GRPC), MESSAGE)
            assert client.reply(stream).status == status
            assert dict(client.streams[stream].trailers).get("grpc-status") == ("0" if status == 200 else None)
    fields = dict(origin.connections[0].requests[0])  # type: ignore[call-overload] -- of the HTTP/2 origin
    assert fields[":authority"] == f"{HOST}:{port}"
    assert [row.protocol for row in proxy.ledger.decisions] == ["grpc", "grpc"]

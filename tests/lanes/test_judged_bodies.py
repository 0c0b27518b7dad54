"""Requests whose body a rule asks for: held until they are judged, and sent as they were judged or not at all."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.asking import line
from rig.modes import HOST, Mode, Site, carried
from rig.proxy import LOOPBACK, port_of
from rig.wire import head

from egress.config import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.wire import Reply

MOST = 4_000
ROOM = 20_000
JSON = "Content-Type: application/json"
LIMITS = Limits(audit_seconds=0.2, connect_seconds=2, resolve_seconds=1, judged_body=MOST)


def call(tool: str, **arguments: str) -> bytes:
    """A `tools/call` as bytes."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return json.dumps(message).encode()


def graphql(document: str, **more: object) -> bytes:
    """A GraphQL request as bytes."""
    return json.dumps({"query": document, **more}).encode()


SEARCH = call("search_issues", repo="acme/app")
DELETE = call("delete_repo", repo="acme/app")
DENIED = {
    "another tool": ("/mcp", DELETE, "body-not-allowed"),
    "another argument": ("/mcp", call("search_issues", repo="evil/app"), "body-not-allowed"),
    "a way up": ("/mcp", call("search_issues", repo="acme/../evil"), "body-not-allowed"),
    "a batch with one more": ("/mcp", b"[" + SEARCH + b"," + DELETE + b"]", "body-not-allowed"),
    "a name twice": (
        "/mcp",
        SEARCH.replace(b'"name"', b'"name": "delete_repo", "name"'),
        "body-unreadable",
    ),
    "UTF-16": ("/mcp", SEARCH.decode().encode("utf-16"), "body-unreadable"),
    "nothing": ("/mcp", b"", "body-unreadable"),
    "a mutation": ("/graphql", graphql("mutation { deleteRepo }"), "body-not-allowed"),
    "a mutation behind a query": (
        "/graphql",
        graphql("query A { a } mutation B { b }", operationName="A"),
        "body-not-allowed",
    ),
    "only a hash": ("/graphql", b'{"extensions": {"persistedQuery": {"sha256Hash": "00"}}}', "body-unreadable"),
}


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A site that takes some MCP calls and GraphQL queries, and refuses one tool by name elsewhere."""
    port = port_of(origin)
    policy = f"""
version: 1
rules:
  - {{deny: "{HOST}:{port}", paths: [/open], mcp: {{tools: ["delete_*"]}}}}
  - {{allow: "{HOST}:{port}", paths: [/open, /free], {LOOPBACK}}}
  - allow: "{HOST}:{port}"
    paths: [/mcp]
    mcp: {{methods: [tools/call], tools: ["search_*"], arguments: {{repo: acme/*}}}}
    {LOOPBACK}
  - {{allow: "{HOST}:{port}", paths: [/graphql], graphql: {{operations: [query]}}, {LOOPBACK}}}
"""
    proxy = start(policy, HOST, limits=LIMITS)
    proxy.gate.bodies.left = ROOM
    return Site(proxy, origin, port)


def post(site: Site, mode: Mode, path: str, body: bytes, *fields: str, chunked: bool = False) -> Reply:
    """Send a body and read the answer."""
    if mode is Mode.TLS2:
        with site.proxy.http2(HOST, site.port) as client:
            more = [tuple(field.lower().split(": ", 1)) for field in (JSON, *fields)]
            asked = head(f"{HOST}:{site.port}", path, "POST", *more)  # type: ignore[arg-type]
            return client.reply(client.request(asked, body))
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n" if chunked else body
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
    with context as wire:
        return wire.send(line(site, path, "POST", JSON, framing, *fields, scheme=mode is Mode.PLAIN) + pieces).reply()


def ends_without_room_taken(site: Site) -> None:
    """Whatever was held is given back."""
    site.proxy.until(lambda: site.proxy.gate.bodies.left == ROOM, "the room of bodies")


EVERY_WAY = carried("mode, chunked", (Mode.PLAIN, False), (Mode.TLS1, False), (Mode.TLS1, True), (Mode.TLS2, False))


@EVERY_WAY
def test_a_body_that_a_rule_names_arrives_as_it_was_judged(*, site: Site, mode: Mode, chunked: bool) -> None:
    """Once, whole, and the row says what it asked for, without its arguments."""
    assert post(site, mode, "/mcp", SEARCH, chunked=chunked).status == 200
    (record,) = site.origin.connections
    assert bytes(record.received).endswith(b"\r\n\r\n" + SEARCH)
    assert record.requests[0].values(b"content-length") == [b"%d" % len(SEARCH)]
    row, outcome = site.proxy.ledger.only()
    assert (row.verdict, row.reason) == ("allow", "rule-allow")
    assert (row.detail or "").endswith("The body asks for: tools/call search_issues.")
    assert (outcome.status, outcome.bytes_up) == (200, len(SEARCH))
    assert "acme" not in repr(row)
    ends_without_room_taken(site)


@carried(
    "mode, case",
    *((mode, case) for mode in (Mode.PLAIN, Mode.TLS1, Mode.TLS2) for case in DENIED),
)
def test_nothing_of_another_body_leaves(site: Site, mode: Mode, case: str) -> None:
    """Refused with the reason and one row; the server hears of nothing."""
    path, body, reason = DENIED[case]
    reply = post(site, mode, path, body)
    assert (reply.status, reply.reason) == (403, reason)
    assert site.origin.connections == []
    assert site.proxy.ledger.only()[0].reason == reason
    ends_without_room_taken(site)


@carried(
    "mode, field", *((mode, field) for mode in (Mode.TLS1, Mode.TLS2) for field in ("gzip", "identity, gzip", "x"))
)
def test_a_coded_body_cannot_be_judged(site: Site, mode: Mode, field: str) -> None:
    """What it says after its decoding is the server's affair: no rule for bodies allows it, a deny holds."""
    for path, reason in (("/mcp", "body-unreadable"), ("/open", "rule-deny")):
        assert post(site, mode, path, SEARCH, f"Content-Encoding: {field}").reason == reason
    assert site.origin.connections == []


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_deny_holds_for_what_it_names_and_for_what_nobody_can_read(site: Site, mode: Mode) -> None:
    """Everything else passes, by the rule that follows."""
    asked = [(DELETE, 403), (b"{", 403), (b"[" + SEARCH + b"," + DELETE + b"]", 403), (SEARCH, 200)]
    assert [post(site, mode, "/open", body).status for body, _ in asked] == [status for _, status in asked]
    site.proxy.ledger.wait(len(asked))
    ends_without_room_taken(site)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_bodies_that_no_rule_asks_for_are_not_held(site: Site, mode: Mode) -> None:
    """However large, they pass as they come."""
    assert post(site, mode, "/free", b"x" * (MOST + 1)).status == 200
    assert site.proxy.gate.bodies.left == ROOM


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_body_that_says_it_is_too_large_cannot_be_judged(site: Site, mode: Mode) -> None:
    """At the limit it is judged, one byte over it is not; where any body may pass, it does."""
    for size, reason in ((MOST, None), (MOST + 1, "body-unreadable")):
        reply = (
            post(site, mode, "/mcp", SEARCH + b" " * (size - len(SEARCH)), f"Content-Length: {size}")
            if (mode is Mode.TLS2)
            else post(site, mode, "/mcp", SEARCH + b" " * (size - len(SEARCH)))
        )
        assert reply.reason == reason
    site.proxy.ledger.wait(2)


@carried("mode, chunked", (Mode.PLAIN, True), (Mode.TLS1, True), (Mode.TLS2, False))
def test_a_body_that_turns_out_too_large_is_refused(*, site: Site, mode: Mode, chunked: bool) -> None:
    """Without a length nobody knows before; nothing of it has left, and no more of it is held."""
    reply = post(site, mode, "/mcp", SEARCH + b" " * MOST, chunked=chunked)
    assert (reply.status, reply.reason) == (413, "limit-body")
    assert site.origin.connections == []
    assert site.proxy.ledger.only()[0].reason == "limit-body"
    ends_without_room_taken(site)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_all_bodies_together_have_a_limit(site: Site, mode: Mode) -> None:
    """One that finds no room is refused, and takes none."""
    site.proxy.gate.bodies.left = 10
    reply = post(site, mode, "/mcp", SEARCH)
    assert (reply.status, reply.reason) == (503, "limit-memory")
    assert site.origin.connections == []
    site.proxy.until(lambda: site.proxy.gate.bodies.left == 10, "the room of bodies")


@carried("mode", (Mode.TLS1,))
def test_the_connection_goes_on_after_a_judged_body(site: Site, mode: Mode) -> None:
    """Denied and allowed bodies in turn, sent at once, each with its own decision."""
    assert mode is Mode.TLS1
    asked = [(SEARCH, 200), (DELETE, 403), (SEARCH, 200)]
    whole = b"".join(line(site, "/mcp", "POST", JSON, f"Content-Length: {len(body)}") + body for body, _ in asked)
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(whole)
        assert [wire.reply().status for _ in asked] == [status for _, status in asked]
    assert [row.reason for row in site.proxy.ledger.wait(3)] == ["rule-allow", "body-not-allowed", "rule-allow"]
    (record,) = site.origin.connections
    assert bytes(record.received).count(SEARCH) == 2
    ends_without_room_taken(site)


@carried("mode, body, status", (Mode.PLAIN, SEARCH, 200), (Mode.TLS1, SEARCH, 200), (Mode.TLS1, DELETE, 403))
def test_the_proxy_asks_for_a_body_that_it_must_judge(site: Site, mode: Mode, body: bytes, status: int) -> None:
    """A client that waits for 100 gets it from us, once; the server is not asked before it may be."""
    fields = (JSON, f"Content-Length: {len(body)}", "Expect: 100-continue")
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
    with context as wire:
        wire.send(line(site, "/mcp", "POST", *fields, scheme=mode is Mode.PLAIN))
        assert wire.reply().status == 100
        assert site.origin.connections == []
        wire.send(body)
        assert wire.reply().status == status
    assert all(not sent.values(b"expect") for record in site.origin.connections for sent in record.requests)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_client_that_leaves_before_its_body_is_whole_leaves_a_row(site: Site, mode: Mode) -> None:
    """One, a refusal, and nothing of the request has left."""
    if mode is Mode.TLS2:
        with site.proxy.http2(HOST, site.port) as client:
            more = (("content-type", "application/json"),)
            client.request(head(f"{HOST}:{site.port}", "/mcp", "POST", *more), SEARCH, end=False)
            site.proxy.until(lambda: site.proxy.gate.bodies.left < ROOM, "the body")
    else:
        context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
        with context as wire:
            wire.send(line(site, "/mcp", "POST", JSON, "Content-Length: 500", scheme=mode is Mode.PLAIN) + SEARCH)
            site.proxy.until(lambda: site.proxy.gate.bodies.left < ROOM, "the body")
    assert site.proxy.ledger.only()[0].reason == "request-malformed"
    assert site.origin.connections == []
    ends_without_room_taken(site)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_body_must_be_whole_in_time(site: Site, mode: Mode) -> None:
    """However its bytes come: the connection is closed, with a row that says why."""
    site.proxy.gate.limits = type(site.proxy.gate.limits)(body_seconds=0.3)
    if mode is Mode.TLS2:
        with site.proxy.http2(HOST, site.port) as client:
            more = (("content-type", "application/json"),)
            stream = client.request(head(f"{HOST}:{site.port}", "/mcp", "POST", *more), SEARCH, end=False)
            assert client.reply(stream).status == 0
    else:
        context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
        with context as wire:
            wire.send(line(site, "/mcp", "POST", JSON, "Content-Length: 500", scheme=mode is Mode.PLAIN) + SEARCH)
            assert wire.reply().status in {0, 408}
    assert site.proxy.ledger.only()[0].reason == "limit-time"
    assert site.origin.connections == []
    ends_without_room_taken(site)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_fields_after_a_judged_body_are_refused(site: Site, mode: Mode) -> None:
    """No rule has seen them; nothing of the request has left."""
    body = b"%x\r\n" % len(SEARCH) + SEARCH + b"\r\n"
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
    with context as wire:
        wire.send(line(site, "/mcp", "POST", JSON, "Transfer-Encoding: chunked", scheme=mode is Mode.PLAIN) + body)
        site.proxy.until(lambda: site.proxy.gate.bodies.left < ROOM, "the body")
        wire.send(b"0\r\nX-Late: evil\r\n\r\n")
        assert wire.reply().status in {0, 400}
    assert site.proxy.ledger.only()[0].reason == "request-malformed"
    assert site.origin.connections == []


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_query_in_the_url_is_judged_too(site: Site, mode: Mode) -> None:
    """A GET with a document is judged by it; a POST whose URL might be read before its body is not readable."""
    document = "%7B+viewer+%7D"
    for path, method, reason in (
        (f"/graphql?query={document}", "GET", None),
        ("/graphql?query=mutation%7Ba%7D", "GET", "body-not-allowed"),
        ("/graphql", "GET", "body-unreadable"),
    ):
        if mode is Mode.TLS2:
            with site.proxy.http2(HOST, site.port) as client:
                reply = client.reply(client.request(head(f"{HOST}:{site.port}", path, method)))
        else:
            context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
            with context as wire:
                reply = wire.send(line(site, path, method, scheme=mode is Mode.PLAIN)).reply()
        assert reply.reason == reason, path
    assert post(site, mode, "/graphql?Query=mutation%7Ba%7D", graphql("{ a }")).reason == "body-unreadable"
    site.proxy.ledger.wait(4)


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_a_websocket_has_no_body_to_judge(site: Site, mode: Mode) -> None:
    """What its messages say is never seen, so no rule for bodies opens one."""
    fields = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 24,
    )
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
    with context as wire:
        reply = wire.send(line(site, "/mcp", "GET", *fields, scheme=mode is Mode.PLAIN)).reply()
    assert reply.reason == "body-unreadable"
    assert site.origin.connections == []


@carried("mode", (Mode.TLS1,))
def test_a_judged_request_is_cut_by_a_reload_that_denies_it(site: Site, mode: Mode) -> None:
    """Its body was read: so it is judged again by what it asks for, not as one that nobody can read."""
    assert mode is Mode.TLS1
    policy = site.proxy.policy_file.read_text()

    def hold(stream: object) -> None:
        stream.request()  # type: ignore[attr-defined]
        stream.until(b"never")  # type: ignore[attr-defined]

    with site.origin.behaving(hold), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(line(site, "/mcp", "POST", JSON, f"Content-Length: {len(SEARCH)}") + SEARCH)
        site.proxy.until(lambda: bool(site.received), "the request")
        assert site.proxy.reload(policy + "\n") == 0
        assert site.proxy.reload(policy.replace("search_*", "find_*")) == 1
        assert wire.reply().status in {0, 502}
    time.sleep(0)
    with site.origin.behaving(answer_ok):
        assert post(site, mode, "/mcp", SEARCH).status == 403


@carried("mode", (Mode.TLS2,))
def test_a_stream_that_is_reset_before_its_body_is_whole_leaves_a_row(site: Site, mode: Mode) -> None:
    """One, a refusal; the connection goes on, and the next request on it is judged as ever."""
    assert mode is Mode.TLS2
    more = (("content-type", "application/json"),)
    with site.proxy.http2(HOST, site.port) as client:
        stream = client.request(head(f"{HOST}:{site.port}", "/mcp", "POST", *more), SEARCH, end=False)
        site.proxy.until(lambda: site.proxy.gate.bodies.left < ROOM, "the body")
        client.connection.reset_stream(stream)
        client.flush()
        ends_without_room_taken(site)
        asked = head(f"{HOST}:{site.port}", "/mcp", "POST", *more)
        assert client.reply(client.request(asked, SEARCH)).status == 200
    assert [row.reason for row in site.proxy.ledger.wait(2)] == ["request-malformed", "rule-allow"]


@carried("mode", (Mode.TLS1,), (Mode.TLS2,))
def test_a_fault_while_a_body_is_judged_refuses(site: Site, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has left, the client is told nothing else, and there is a row."""

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    for room in ("egress.mitm.awaited_hooks", "egress.proxy.http_exchange"):
        monkeypatch.setattr(f"{room}.judged_whole", fail)
    reply = post(site, mode, "/mcp", SEARCH)
    assert (reply.status, reply.reason) in {(0, None), (500, "internal-error")}
    assert site.origin.connections == []
    assert site.proxy.ledger.only()[0].reason == "internal-error"
    ends_without_room_taken(site)

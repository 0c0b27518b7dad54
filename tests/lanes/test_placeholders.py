"""Placeholders in requests: swapped where the rule says so, found everywhere else, in each lane that looks inside."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from harness.origins import answer_ok
from rig.asking import line
from rig.modes import HOST, Mode, Site, carried
from rig.proxy import LOOPBACK, SECRET, port_of
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.wire import Reply

HELD = "sk-egress-0123456789abcdefABCDEF"
OTHER = "other-placeholder-0123456789"
BOTH = ((Mode.TLS1,), (Mode.TLS2,))
JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
BASIC = base64.b64encode(f"user:{HELD}".encode()).decode()


def policy(port: int, more: str = "") -> str:
    """Two secrets for one host, whose value goes where the rules for their paths say, and a page for all else."""
    return f"""
version: 1
secrets:
  canary: {{env: CANARY, hosts: ["{HOST}:{port}"], placeholder: {HELD}{more}}}
  other: {{env: OTHER, hosts: ["elsewhere.test"], placeholder: {OTHER}}}
rules:
  - {{allow: "{HOST}:{port}", paths: [/injected], inject: {{X-Api-Key: "${{canary}}"}}, {LOOPBACK}}}
  - allow: "{HOST}:{port}"
    paths: [/basic]
    inject: {{Authorization: {{basic: {{user: git, password: "${{canary}}"}}}}}}
    {LOOPBACK}
  - {{allow: "{HOST}:{port}", paths: [/header], swap: {{secret: canary, headers: [Authorization, Cookie]}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: [/query], swap: {{secret: canary, in: query}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: ["/bot/*/send"], swap: {{secret: canary, in: path}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: [/body], swap: {{secret: canary, in: body}}, {LOOPBACK}}}
  - allow: "{HOST}:{port}"
    paths: [/required]
    swap: {{secret: canary, headers: [Authorization], require: true}}
    {LOOPBACK}
  - {{allow: "{HOST}:{port}", paths: [/stripped], strip_own: true, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: [/open], {LOOPBACK}}}
"""


@pytest.fixture
def begin(start: Callable[..., Proxy], origin: Origins) -> Callable[..., Site]:
    """A site under `policy`, or under what a test makes of it."""

    def site(more: str = "") -> Site:
        proxy = start(policy(port_of(origin), more), HOST, env={"CANARY": SECRET, "OTHER": "no-value-of-interest"})
        return Site(proxy, origin, port_of(origin))

    return site


@pytest.fixture
def site(begin: Callable[..., Site]) -> Site:
    """The site."""
    return begin()


def ask(site: Site, mode: Mode, path: str, *fields: str, body: bytes | None = None) -> Reply:
    """Send a request and read the answer."""
    method = "GET" if body is None else "POST"
    if mode is Mode.TLS2:
        with site.proxy.http2(HOST, site.port) as client:
            more = [tuple(field.split(": ", 1)) for field in fields]
            asked = head(f"{HOST}:{site.port}", path, method, *[(name.lower(), value) for name, value in more])
            return client.reply(client.request(asked, b"" if body is None else body))
    framing = () if body is None else (f"Content-Length: {len(body)}",)
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
    with context as wire:
        return wire.send(line(site, path, method, *fields, *framing, scheme=mode is Mode.PLAIN) + (body or b"")).reply()


def sent(site: Site) -> tuple[str, dict[str, list[str]], bytes]:
    """The one request that the origin got: its target, its fields, its body."""
    (record,) = site.origin.connections
    (request,) = record.requests
    fields: dict[str, list[str]] = {}
    for name, value in request.fields:
        fields.setdefault(name.lower().decode(), []).append(value.decode())
    _, _, body = bytes(record.received).partition(b"\r\n\r\n")
    return request.line.split(b" ")[1].decode(), fields, body


SWAPPED = {
    "bearer": ("/header", [f"Authorization: Bearer {HELD}"], ("authorization", [f"Bearer {SECRET}"])),
    "basic": (
        "/header",
        [f"Authorization: Basic {BASIC}"],
        ("authorization", ["Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()]),
    ),
    "cookie": ("/header", [f"Cookie: a=b; key={HELD}"], ("cookie", [f"a=b; key={SECRET}"])),
    "injected over a placeholder": ("/injected", [f"X-Api-Key: {HELD}"], ("x-api-key", [SECRET])),
    "injected without one": ("/injected", [], ("x-api-key", [SECRET])),
    "injected as Basic": (
        "/basic",
        [f"Authorization: Basic {BASIC}"],
        ("authorization", ["Basic " + base64.b64encode(f"git:{SECRET}".encode()).decode()]),
    ),
    "required and there": ("/required", [f"Authorization: token {HELD}"], ("authorization", [f"token {SECRET}"])),
}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in SWAPPED))
def test_a_value_goes_into_the_header_that_the_rule_names(site: Site, mode: Mode, case: str) -> None:
    """Once, in place of the placeholder, and the row names the secret."""
    path, fields, (name, values) = SWAPPED[case]
    assert ask(site, mode, path, *fields).status == 200
    target, got, _ = sent(site)
    assert (target, got[name]) == (path, values)
    assert HELD not in repr(got)
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.secrets) == ("allow", ("canary",))
    assert SECRET not in repr(site.proxy.ledger.events)


TARGETS = {
    "query": (f"/query?a=1&key={HELD}&b=%41", f"/query?a=1&key={SECRET}&b=%41"),
    "query, encoded": (f"/query?key=%73{HELD[1:]}", f"/query?key={SECRET}"),
    "path": (f"/bot/{HELD}/send?x=1", f"/bot/{SECRET}/send?x=1"),
}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in TARGETS))
def test_a_value_goes_into_the_target_where_the_rule_says_so(site: Site, mode: Mode, case: str) -> None:
    """The server gets the value, the row keeps the placeholder."""
    asked, wanted = TARGETS[case]
    assert ask(site, mode, asked).status == 200
    assert sent(site)[0] == wanted
    row, _ = site.proxy.ledger.only()
    assert row.secrets == ("canary",)
    assert row.rewritten is None
    assert SECRET not in repr(site.proxy.ledger.events)


BODIES = {
    "JSON": (
        JSON,
        json.dumps({"key": HELD, "n": [1, f"a {HELD}"]}),
        json.dumps({"key": SECRET, "n": [1, f"a {SECRET}"]}),
    ),
    "JSON, escaped": (JSON, '{"key": "\\u0073' + HELD[1:] + '"}', json.dumps({"key": SECRET})),
    "form": (FORM, f"a=1&key={quote(HELD)}", f"a=1&key={SECRET}"),
    "without it": (JSON, '{"a": "b"}', '{"a": "b"}'),
    "text without it": ("Content-Type: text/plain", "a", "a"),
}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in BODIES))
def test_a_value_goes_into_the_body_where_the_rule_says_so(site: Site, mode: Mode, case: str) -> None:
    """In the values of JSON and of forms, with a length of its own."""
    kind, body, wanted = BODIES[case]
    assert ask(site, mode, "/body", kind, body=body.encode()).status == 200
    _, fields, got = sent(site)
    assert got == wanted.encode()
    assert fields["content-length"] == [str(len(wanted))]
    assert SECRET not in repr(site.proxy.ledger.events)
    site.proxy.until(lambda: site.proxy.gate.bodies.left == 64_000_000, "the room of bodies")


MISDIRECTED = {
    "another header": ("/header", [f"X-Api-Key: {HELD}"], None),
    "a header where only the query is named": ("/query", [f"Authorization: Bearer {HELD}"], None),
    "the query where only the header is named": (f"/header?key={HELD}", [], None),
    "a parameter's name": (f"/query?{HELD}=1", [], None),
    "no place at all": ("/open", [f"Authorization: Bearer {HELD}"], None),
    "inside Basic": ("/open", [f"Authorization: Basic {BASIC}"], None),
    "a cookie": ("/open", [f"Cookie: key={HELD}"], None),
    "percent-encoded": ("/open?key=" + "".join(f"%{ord(c):02x}" for c in HELD), [], None),
    "a secret that is bound elsewhere": ("/header", [f"Authorization: Bearer {OTHER}"], None),
    "beside one that is swapped": ("/header", [f"Authorization: Bearer {HELD}", f"X-Api-Key: {HELD}"], None),
    "a key of JSON": ("/body", [JSON], json.dumps({HELD: 1})),
    "base64 in a held body": ("/body", [JSON], json.dumps({"x": base64.b64encode(f"__{HELD}__".encode()).decode()})),
    "plain text, held": ("/body", ["Content-Type: text/plain"], f"my key: {HELD}!"),
}
BODY_REASONS = {"plain text, held": "body-unreadable"}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in MISDIRECTED))
def test_a_placeholder_goes_nowhere_else(site: Site, mode: Mode, case: str) -> None:
    """Refused with one row before anything is dialled; the server hears of nothing."""
    path, fields, body = MISDIRECTED[case]
    reply = ask(site, mode, path, *fields, body=None if body is None else body.encode())
    reason = BODY_REASONS.get(case, "placeholder-misdirected")
    assert (reply.status, reply.reason) == (403, reason)
    assert site.origin.connections == []
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.reason, row.secrets) == ("deny", reason, ())


@carried("mode", (Mode.TLS1,))
def test_a_placeholder_as_a_method_goes_nowhere(site: Site, mode: Mode) -> None:
    """Where a rule names no methods, a client may make one up."""
    assert mode is Mode.TLS1
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        assert wire.send(line(site, "/open", HELD)).reply().reason == "placeholder-misdirected"
    assert site.origin.connections == []


def test_over_plain_http_it_is_found_too(site: Site) -> None:
    """The placeholder is looked for whatever carries the request."""
    assert ask(site, Mode.PLAIN, "/open", f"X-Key: {HELD}").reason == "placeholder-misdirected"


STREAMED = {
    "plain": f"some text {HELD} and more",
    "JSON, escaped": json.dumps({"a": "\\u0073" + HELD[1:]}).replace("\\\\", "\\"),
    "percent-encoded": "key=" + "".join(f"%{ord(c):02X}" for c in HELD),
    "base64": base64.b64encode(f"{{'x': '{HELD}'}}".encode()).decode(),
    "hexadecimal": HELD.encode().hex(),
}


@carried("mode, case", *((mode, case) for (mode,) in ((Mode.PLAIN,), *BOTH) for case in STREAMED))
def test_a_streaming_body_with_a_placeholder_never_becomes_whole(site: Site, mode: Mode, case: str) -> None:
    """What completes the placeholder stays here, the client is told, and the outcome has the reason."""
    reply = ask(site, mode, "/open", "Content-Type: text/plain", body=STREAMED[case].encode())
    assert (reply.status, reply.reason) == (403, "placeholder-misdirected")
    assert STREAMED[case].encode() not in site.received
    row, outcome = site.proxy.ledger.only()
    assert row.verdict == "allow"
    assert (outcome.error or "").startswith("placeholder-misdirected: the request carries the placeholder of `canary`")


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_a_placeholder_in_many_small_pieces_is_found(site: Site, mode: Mode) -> None:
    """Each byte a chunk of its own."""
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in HELD.encode()) + b"0\r\n\r\n"
    context = site.proxy.connect() if mode is Mode.PLAIN else site.proxy.inside(HOST, site.port, "http/1.1")
    with context as wire:
        asked = line(site, "/open", "POST", "Transfer-Encoding: chunked", scheme=mode is Mode.PLAIN)
        reply = wire.send(asked + pieces).reply()
    assert reply.reason == "placeholder-misdirected"
    assert b"0\r\n\r\n" not in site.received


@carried("mode, size", (Mode.PLAIN, 16_384), (Mode.TLS1, 256_000))
def test_a_body_without_a_placeholder_keeps_its_length(site: Site, mode: Mode, size: int) -> None:
    """Being looked at changes nothing of a body: not its bytes, not its framing."""
    body = bytes(range(256)) * (size // 256)
    with site.origin.behaving(answer_ok):
        assert ask(site, mode, "/open", body=body).status == 200
    _, fields, got = sent(site)
    assert got == body
    assert fields["content-length"] == [str(len(body))]
    assert "transfer-encoding" not in fields


UNREADABLE = {
    "compressed": (["Content-Encoding: gzip", JSON], b"\x1f\x8b", "body-unreadable"),
    "no JSON": ([JSON], f'{{"a": {HELD}'.encode(), "body-unreadable"),
    "of no type": ([], json.dumps(HELD).encode(), "body-unreadable"),
}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in UNREADABLE))
def test_a_body_that_cannot_be_swapped_in_is_refused(site: Site, mode: Mode, case: str) -> None:
    """It is neither sent as it came, nor with a value in a place that nobody could tell."""
    fields, body, reason = UNREADABLE[case]
    reply = ask(site, mode, "/body", *fields, body=body)
    assert reply.reason == reason
    assert site.origin.connections == []


@carried("mode", (Mode.TLS1,))
def test_a_body_does_not_grow_beyond_reason(site: Site, mode: Mode) -> None:
    """The placeholder very many times: what values would add has a limit."""
    reply = ask(site, mode, "/body", JSON, body=json.dumps([HELD] * 20_000).encode())
    assert reply.reason == "limit-body"
    assert site.origin.connections == []


REQUIRED = {
    "nothing": [],
    "a key of its own": ["Authorization: Bearer my-own-key"],
    "the placeholder of another": [f"Authorization: Bearer {OTHER}"],
}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in REQUIRED))
def test_a_request_without_a_required_placeholder_is_refused(site: Site, mode: Mode, case: str) -> None:
    """A smuggled key gets nowhere."""
    reply = ask(site, mode, "/required", *REQUIRED[case])
    assert (reply.status, reply.reason) == (403, "placeholder-required")
    assert site.origin.connections == []


@carried("mode", *BOTH)
def test_credentials_of_the_clients_own_are_stripped(site: Site, mode: Mode) -> None:
    """In every spelling that a server may take for the header."""
    own = ["Authorization: Bearer mine", "Cookie: a=b", "X-API-Key: mine", "X_Api_Key: mine", "X-Kept: yes"]
    assert ask(site, mode, "/stripped", *own).status == 200
    _, fields, _ = sent(site)
    assert {"authorization", "cookie", "x-api-key", "x_api_key"}.isdisjoint(fields)
    assert fields["x-kept"] == ["yes"]


NARROWER = {
    "another method": (", methods: [POST]", "/header"),
    "another path": (", paths: [/body]", "/header"),
}


@carried("mode, case", *((mode, case) for (mode,) in BOTH for case in NARROWER))
def test_a_binding_to_methods_and_paths_holds_whatever_the_policy_says(
    begin: Callable[..., Site], mode: Mode, case: str
) -> None:
    """Injected, the request goes without the secret; with its placeholder, it does not go."""
    more, path = NARROWER[case]
    site = begin(more)
    assert ask(site, mode, "/injected").status == 200
    assert "x-api-key" not in sent(site)[1]
    assert ask(site, mode, path, f"Authorization: Bearer {HELD}").reason == "placeholder-misdirected"
    assert SECRET.encode() not in site.received


@carried("mode", *BOTH)
def test_a_doubtful_path_is_none_that_a_secret_is_bound_to(begin: Callable[..., Site], mode: Mode) -> None:
    """What the server may take for another path gets no value."""
    site = begin(", paths: [/header]")
    for path in ("/header/../header", "/%68eader", "/header;x"):
        assert ask(site, mode, path, f"Authorization: Bearer {HELD}").status == 403
    assert site.origin.connections == []

"""Requests signed by the proxy, in every lane that looks inside: the client signs with placeholders, or not at all.

The origin checks each signature by itself, over what it got.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

import pytest
from rig.asking import line
from rig.modes import HOST, Mode, Site, carried
from rig.proxy import LOOPBACK, port_of
from rig.rewriting import ASKED, REACHED, serving
from rig.rewriting import ask as ask_rewritten
from rig.signatures import came, signed_by
from rig.wire import head

from egress.config import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.wire import Reply

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = f"AKIAREALKEY:{SECRET}"
TOKEN = "a-session-token+/=="
TEMPORARY = json.dumps({"Version": 1, "AccessKeyId": "ASIAREAL", "SecretAccessKey": SECRET, "SessionToken": TOKEN})
MOST = 4_000
EMPTY = hashlib.sha256(b"").hexdigest()
LIMITS = Limits(audit_seconds=0.2, connect_seconds=2, resolve_seconds=1, judged_body=MOST)
INSIDE = carried("mode", (Mode.TLS1,), (Mode.TLS2,))


@pytest.fixture
def begin(start: Callable[..., Proxy], origin: Origins) -> Callable[..., Site]:
    """A site whose one rule signs, by `sign`; `hosts`: where the secret may go."""
    port = port_of(origin)

    def site(sign: str = "{sigv4: aws}", value: str = KEYS, hosts: str = f"{HOST}:{port}", more: str = "") -> Site:
        policy = f"""
version: 1
secrets:
  aws: {{env: KEYS, hosts: ["{hosts}"]}}
rules:
  - name: signed
    allow: "{HOST}:{port}"
    sign: {sign}
    {LOOPBACK}
    {more}
"""
        return Site(start(policy, HOST, env={"KEYS": value}, limits=LIMITS), origin, port)

    return site


def placeholder(service: str, *listed: str, region: str = "eu-west-1") -> str:
    """A client's signature by keys that open nothing, under an old date."""
    names = ";".join(sorted({"host", "x-amz-date", *listed}))
    credential = f"AKIAPLACEHOLDER/20200101/{region}/{service}/aws4_request"
    return f"Authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={'0' * 64}"


def presigned(service: str = "s3", expires: str = "86400") -> str:
    """The query of a URL that a client presigned with such keys."""
    credential = f"AKIAPLACEHOLDER%2F20200101%2Feu-west-1%2F{service}%2Faws4_request"
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date=20200101T000000Z"
        f"&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Security-Token=theirs&X-Amz-Signature={'0' * 64}"
    )


OLD = ("X-Amz-Date: 20200101T000000Z", "X-Amz-Security-Token: theirs")


def ask(
    site: Site, mode: Mode, method: str, path: str, *fields: str, body: bytes | None = None, chunked: bool = False
) -> Reply:
    """Send a request and read the answer; the origin speaks what comes."""
    with site.serving(mode):
        if mode is Mode.TLS2:
            with site.proxy.http2(HOST, site.port) as client:
                rows = [field.split(": ", 1) for field in fields]
                asked = head(f"{HOST}:{site.port}", path, method, *((name.lower(), value) for name, value in rows))
                return client.reply(client.request(asked, body))
        framing = (
            () if body is None else ("Transfer-Encoding: chunked",) if chunked else (f"Content-Length: {len(body)}",)
        )
        data = body or b""
        pieces = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if chunked else data
        with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
            return wire.send(line(site, path, method, *fields, *framing) + pieces).reply(method)


@INSIDE
def test_a_client_with_placeholder_keys_is_signed_anew(begin: Callable[..., Site], origin: Origins, mode: Mode) -> None:
    """Region and service are those of its own signature; keys, date and token are ours; the row names the secret."""
    site = begin()
    fields = (placeholder("s3", "range", "x-amz-content-sha256"), *OLD, f"X-Amz-Content-Sha256: {EMPTY}")
    reply = ask(
        site, mode, "GET", "/a%20key?list-type=2&prefix=x%2Fy&prefix=a", *fields, "Range: bytes=0-9", "X-Own: 1"
    )
    assert reply.status == 200
    sent = came(origin, mode)
    claim = signed_by(sent, SECRET)
    assert (claim["key"], claim["region"], claim["service"]) == ("AKIAREALKEY", "eu-west-1", "s3")
    assert "range" in claim["SignedHeaders"].split(";")
    assert not claim["stamp"].startswith("2020")
    assert sent.values("x-amz-security-token") == []
    assert (sent.path, sent.query) == ("/a%20key", "list-type=2&prefix=x%2Fy&prefix=a")
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.secrets) == ("allow", ("aws",))


@INSIDE
def test_nothing_of_keys_goes_up_but_what_a_signature_tells(
    begin: Callable[..., Site], origin: Origins, mode: Mode
) -> None:
    """Neither the secret key nor anything of the client's own; the token of temporary keys does, signed."""
    site = begin(value=TEMPORARY)
    assert ask(site, mode, "GET", "/", placeholder("s3"), *OLD).status == 200
    sent = came(origin, mode)
    claim = signed_by(sent, SECRET)
    assert claim["key"] == "ASIAREAL"
    assert sent.values("x-amz-security-token") == [TOKEN]
    whole = site.received + repr(sent).encode()
    for absent in (SECRET, "AKIAPLACEHOLDER", "theirs", "20200101"):
        assert absent.encode() not in whole


@INSIDE
def test_the_host_is_signed_as_it_goes_up(begin: Callable[..., Site], origin: Origins, mode: Mode) -> None:
    """However the client spells it."""
    site = begin()
    name = f"{HOST.upper()}:{site.port}"
    fields = (placeholder("s3"), *OLD)
    with site.serving(mode):
        if mode is Mode.TLS2:
            with site.proxy.http2(HOST, site.port) as client:
                rows = [(each.lower(), value) for each, value in (field.split(": ", 1) for field in fields)]
                assert client.reply(client.request(head(name, "/", "GET", *rows))).status == 200
        else:
            with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
                asked = "\r\n".join(["GET / HTTP/1.1", f"Host: {name}", *fields, "", ""])
                assert wire.send(asked.encode()).reply().status == 200
    sent = came(origin, mode)
    signed_by(sent, SECRET)
    assert sent.host == f"{HOST}:{site.port}"


@INSIDE
def test_a_presigned_query_is_signed_in_the_query(begin: Callable[..., Site], origin: Origins, mode: Mode) -> None:
    """The rest of it stays as it was sent; what comes back of it is good for minutes only."""
    site = begin(value=TEMPORARY)
    assert ask(site, mode, "GET", f"/key?versionId=7&{presigned()}&x-id=GetObject").status == 200
    sent = came(origin, mode)
    claim = signed_by(sent, SECRET)
    assert (claim["key"], claim["Expires"], claim["service"]) == ("ASIAREAL", "300", "s3")
    assert sent.query.startswith("versionId=7&x-id=GetObject&X-Amz-Algorithm=")
    assert sent.parameters["X-Amz-Security-Token"] == TOKEN
    assert sent.values("authorization") == []
    assert sent.query.count("X-Amz-Signature=") == 1


BODIES = carried("mode, chunked", (Mode.TLS1, False), (Mode.TLS1, True), (Mode.TLS2, False))


@BODIES
def test_a_body_without_a_declared_hash_is_hashed(
    *, begin: Callable[..., Site], origin: Origins, mode: Mode, chunked: bool
) -> None:
    """As SDKs send to most services: they sign the body's hash, and tell nobody."""
    site = begin()
    room = site.proxy.gate.bodies.left
    body = b'{"TableName": "orders"}'
    fields = (placeholder("dynamodb", "x-amz-target"), *OLD, "X-Amz-Target: DynamoDB_20120810.Scan")
    assert ask(site, mode, "POST", "/", *fields, body=body, chunked=chunked).status == 200
    claim = signed_by(came(origin, mode), SECRET, body=body)
    assert claim["service"] == "dynamodb"
    assert claim["payload"] == hashlib.sha256(body).hexdigest()
    site.proxy.until(lambda: site.proxy.gate.bodies.left == room, "the room of bodies")


DECLARED = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", hashlib.sha256(b"x" * (MOST + 1)).hexdigest()]
STREAMED = carried("mode, declared", *[(mode, each) for mode in (Mode.TLS1, Mode.TLS2) for each in DECLARED])


@STREAMED
def test_a_declared_payload_streams(begin: Callable[..., Site], origin: Origins, mode: Mode, declared: str) -> None:
    """However large: what the client declares is signed, and the body is never held."""
    site = begin()
    body = b"x" * (MOST + 1)
    fields = (placeholder("s3", "x-amz-content-sha256"), *OLD, f"X-Amz-Content-Sha256: {declared}")
    assert ask(site, mode, "PUT", "/key", *fields, body=body).status == 200
    assert signed_by(came(origin, mode), SECRET)["payload"] == declared


@INSIDE
def test_s3_takes_a_body_that_nobody_signed(begin: Callable[..., Site], origin: Origins, mode: Mode) -> None:
    """A client that knows of no signatures sends what it has, of any size."""
    site = begin("{sigv4: aws, region: eu-west-1, service: s3}")
    assert ask(site, mode, "PUT", "/key", body=b"x" * (MOST + 1)).status == 200
    claim = signed_by(came(origin, mode), SECRET)
    assert (claim["region"], claim["service"], claim["payload"]) == ("eu-west-1", "s3", "UNSIGNED-PAYLOAD")


@INSIDE
def test_what_the_rule_states_is_what_is_signed(begin: Callable[..., Site], origin: Origins, mode: Mode) -> None:
    """Whatever region the client was set up for; and a credential of another kind gives way."""
    site = begin("{sigv4: aws, region: us-east-2, service: sqs}")
    assert ask(site, mode, "GET", "/a/%2e", "Authorization: Bearer theirs").status == 200
    sent = came(origin, mode)
    claim = signed_by(sent, SECRET)
    assert (claim["region"], claim["service"]) == ("us-east-2", "sqs")


@INSIDE
def test_a_signature_covers_what_other_actions_change(begin: Callable[..., Site], origin: Origins, mode: Mode) -> None:
    """Headers that the rule sets or removes, and those that end at a hop, were changed before it is put on."""
    site = begin(more="inject: {X-Amz-Meta-Who: agent}\n    remove: [X-Amz-Meta-Own]")
    hop = () if mode is Mode.TLS2 else ("Connection: x-amz-meta-hop", "X-Amz-Meta-Hop: 1")
    fields = (placeholder("s3", "x-amz-meta-own", "x-amz-meta-who"), "X-Amz-Meta-Own: 1", "X-Amz-Meta-Who: me", *hop)
    assert ask(site, mode, "GET", "/key", *OLD, *fields).status == 200
    sent = came(origin, mode)
    listed = signed_by(sent, SECRET)["SignedHeaders"].split(";")
    assert "x-amz-meta-who" in listed
    assert not {"x-amz-meta-own", "x-amz-meta-hop"} & set(listed)
    assert sent.values("x-amz-meta-who") == ["agent"]


ECDSA = placeholder("s3").replace("HMAC-SHA256", "ECDSA-P256-SHA256")
CHUNKS = "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
REFUSED = {
    "chunks": ("/", (placeholder("s3"), CHUNKS), "chunk by chunk"),
    "chunks and a trailer": ("/", (placeholder("s3"), f"{CHUNKS}-TRAILER"), "chunk by chunk"),
    "chunks of another key": ("/", (placeholder("s3"), CHUNKS.replace("HMAC", "ECDSA-P256")), "chunk by chunk"),
    "another algorithm": ("/", (ECDSA,), "another algorithm"),
    "several regions": ("/", (placeholder("s3"), "X-Amz-Region-Set: *"), "SigV4A"),
    "an older version": ("/", ("Authorization: AWS AKIAPLACEHOLDER:c2ln",), "Version 2"),
    "an older version's query": ("/?AWSAccessKeyId=AKIA&Signature=x&Expires=9", (), "Version 2"),
    "header and query": (f"/?{presigned()}", (placeholder("s3"),), "twice"),
    "a parameter twice": (f"/?{presigned()}&X-Amz-Expires=1", (), "twice"),
    "a scope of too few parts": ("/", (placeholder("s3").replace("/eu-west-1", ""),), "cannot be read"),
    "a region that is none": ("/", (placeholder("s3", region="eu west"),), "cannot be read"),
    "two hashes": (
        "/",
        (placeholder("s3"), f"X-Amz-Content-Sha256: {EMPTY}", "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD"),
        "two hashes",
    ),
    "a hash that is none": ("/", (placeholder("s3"), "X-Amz-Content-Sha256: abc"), "none"),
    "no signature": ("/", (), "which region and service"),
    "a session of S3 Express": ("/", (placeholder("s3express"), "X-Amz-S3session-Token: t"), "S3 Express"),
}


@carried("mode, case", *[(mode, case) for mode in (Mode.TLS1, Mode.TLS2) for case in REFUSED])
def test_what_cannot_be_signed_anew_is_refused(begin: Callable[..., Site], mode: Mode, case: str) -> None:
    """Before anything is dialled, with a sentence that says why and holds nothing of the request."""
    site = begin()
    path, fields, why = REFUSED[case]
    reply = ask(site, mode, "PUT", path, *fields, body=b"x")
    assert (reply.status, reply.reason) == (403, "request-not-signable")
    assert why in reply.problem["detail"]
    assert site.received == b""
    row, _ = site.proxy.ledger.only()
    assert (row.reason, row.secrets) == ("request-not-signable", ())


@INSIDE
def test_a_body_too_large_to_be_hashed_is_refused(begin: Callable[..., Site], mode: Mode) -> None:
    """Nothing of it leaves: a signature over a part would be none."""
    site = begin()
    reply = ask(site, mode, "POST", "/", placeholder("dynamodb"), body=b"x" * (MOST + 1))
    assert reply.reason == "limit-body"
    assert site.received == b""


@INSIDE
@pytest.mark.parametrize("value", ["no keys", "AKIA", '{"Version": 1}', '{"AccessKeyId": "AKIAX"', "AK IA:x", "AKIA:"])
def test_a_value_that_is_no_keys_signs_nothing(begin: Callable[..., Site], mode: Mode, value: str) -> None:
    """The request is refused, and neither page nor row tells anything of the value."""
    site = begin(value=value)
    reply = ask(site, mode, "GET", "/", placeholder("s3"), *OLD)
    assert (reply.status, reply.reason) == (503, "credential-unavailable")
    row, _ = site.proxy.ledger.only()
    assert "`aws` signs nothing" in reply.problem["detail"]
    assert value not in reply.whole.decode() + repr(row)
    assert site.received == b""


@INSIDE
def test_a_host_that_the_secret_is_not_bound_to_gets_no_signature(
    start: Callable[..., Proxy], origin: Origins, mode: Mode
) -> None:
    """Neither ours nor the client's own, in header or query: the request goes without any, and the row says so."""
    port = port_of(origin)
    policy = f"""
version: 1
secrets:
  aws: {{env: KEYS, hosts: ["other.test:{port}"]}}
rules:
  - {{allow: ["other.test:{port}", "{HOST}:{port}"], sign: {{sigv4: aws}}, {LOOPBACK}}}
"""
    site = Site(start(policy, HOST, env={"KEYS": KEYS}, limits=LIMITS), origin, port)
    assert ask(site, mode, "GET", f"/?a=1&{presigned()}", "X-Amz-Date: 20200101T000000Z").status == 200
    sent = came(origin, mode)
    assert (sent.query, sent.values("x-amz-date"), sent.values("authorization")) == ("a=1", [], [])
    row, _ = site.proxy.ledger.only()
    assert row.secrets == ()
    assert "not bound to this host: `aws`" in (row.detail or "")


@carried("mode", (Mode.PLAIN,))
def test_a_signature_is_never_put_on_in_the_clear(begin: Callable[..., Site], mode: Mode) -> None:
    """A signed request that is seen on its way can be sent again by whoever saw it."""
    site = begin()
    assert site.exchange(mode).reason == "credential-insecure"
    assert site.received == b""


@INSIDE
def test_what_is_signed_is_where_it_goes(start: Callable[..., Proxy], origin: Origins, mode: Mode) -> None:
    """A rewritten request is signed for the host and path that it is rewritten to."""
    port = port_of(origin)
    policy = f"""
version: 1
secrets:
  aws: {{env: KEYS, hosts: ["{REACHED}:{port}"]}}
rules:
  - allow: {ASKED}
    rewrite: {{host: {REACHED}, port: {port}, path_prefix: /bucket}}
    sign: {{sigv4: aws, region: eu-west-1, service: s3}}
  - {{allow: "{REACHED}:{port}", {LOOPBACK}}}
"""
    proxy = start(policy, REACHED, env={"KEYS": KEYS})
    with serving(origin, mode):
        assert ask_rewritten(proxy, mode, "/v1/chat").status == 200
    sent = came(origin, mode)
    signed_by(sent, SECRET)
    assert (sent.host, sent.path) == (f"{REACHED}:{port}", "/bucket/v1/chat")


def test_each_request_of_a_connection_is_signed_by_itself(begin: Callable[..., Site], origin: Origins) -> None:
    """What a connection's requests have in common is kept; a signature never is."""
    site = begin()
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        for number in range(3):
            wire.send(line(site, f"/{number}", "GET", placeholder("s3"), *OLD))
            assert wire.reply().status == 200
    (record,) = [each for each in origin.connections if each.requests]
    assert len({each.values(b"authorization")[0] for each in record.requests}) == 3


MESSAGE = "${timestamp}.${method}.${host}${path}?${query}.${header:x-own}.${nonce}.${body}"
HMAC = (
    f'{{hmac: {{secret: aws, message: "{MESSAGE}", header: X-Signature, value: "t=${{timestamp}},v1=${{signature}}", '
    'algorithm: sha512, encoding: base64, key: base64, also: {X-Nonce: "${nonce}"}}}'
)


@BODIES
def test_a_scheme_by_template_signs_what_goes_up(
    *, begin: Callable[..., Site], origin: Origins, mode: Mode, chunked: bool
) -> None:
    """Method, host, path, query, a header, a nonce and the body; the client's own header of that name gives way."""
    key = b"\x00\xffkey"
    site = begin(HMAC, value=base64.b64encode(key).decode())
    body = b"\x00binary\r\n\r\n"
    assert (
        ask(
            site, mode, "POST", "/v1/x%20y?a=1", "X-Own: o w n", "X_Signature: theirs", body=body, chunked=chunked
        ).status
        == 200
    )
    sent = came(origin, mode)
    stamp, signature = sent.values("x-signature")[0].removeprefix("t=").split(",v1=", 1)
    (nonce,) = sent.values("x-nonce")
    message = f"{stamp}.POST.{HOST}:{site.port}/v1/x%20y?a=1.o w n.{nonce}.".encode() + body
    assert base64.b64decode(signature) == hmac.digest(key, message, "sha512")
    assert sent.values("x_signature") == []
    row, _ = site.proxy.ledger.only()
    assert row.secrets == ("aws",)


@INSIDE
def test_a_key_that_is_not_in_its_form_signs_nothing(begin: Callable[..., Site], mode: Mode) -> None:
    """A value that does not decode is refused, and not told."""
    site = begin(HMAC, value="not base64!")
    reply = ask(site, mode, "GET", "/")
    assert reply.reason == "credential-unavailable"
    assert "not base64!" not in reply.whole.decode()

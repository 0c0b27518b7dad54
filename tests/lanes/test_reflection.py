"""What an upstream sends back of an injected secret does not reach the client, in every lane that looks inside.

The upstream here is one that echoes: in its head, its body, behind it, in any coding, cut anywhere.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import zlib
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from harness.origins import answer_raw
from rig.http2_origin import answering
from rig.modes import Mode, carried
from rig.proxy import SECRET, Carrier, port_of
from rig.rewriting import ASKED, EVERY, REACHED, ask, policy
from rig.websocket import KEY, accept, receive_frame
from rig.wire import head

from egress.credentials import scrub as scrub_module

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy
    from rig.wire import Reply

SHOWN = "[egress:canary]"
# A client must see nothing of these, whatever else it sees.
FORMS = (SECRET, base64.b64encode(SECRET.encode()).decode()[:20], quote(SECRET).replace("-", "%2D"))


@pytest.fixture
def begin(start: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Start a proxy that puts the secret on every request."""
    return lambda text: start(text, REACHED, env={"CANARY": SECRET})


def rules(origin: Origins, *more: str) -> str:
    """The policy, with `more` in the rule that injects."""
    inject = 'inject: {X-Api-Key: "Key ${canary}"}'
    return policy(port_of(origin), inject="\n    ".join((inject, *more)))


def http1(fields: str, body: bytes, *, status: str = "200 OK", length: bool = True) -> bytes:
    """An answer as bytes."""
    framing = f"Content-Length: {len(body)}\r\n" if length else "Transfer-Encoding: chunked\r\n"
    return f"HTTP/1.1 {status}\r\n{fields}{framing}\r\n".encode() + body


def sending(origin: Origins, mode: Mode, fields: dict[str, str], body: bytes) -> AbstractContextManager[None]:
    """Let the origin answer with these, in the protocol that the mode needs."""
    if mode is Mode.TLS2:
        return origin.behaving(answering([(":status", "200"), *fields.items()], body), alpn=("h2",))
    rows = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return origin.behaving(answer_raw(http1(rows, body)))


def raw(proxy: Proxy, mode: Mode, fields: str = "") -> bytes:
    """All that the proxy sends for a GET, until it ends the connection."""
    with proxy.connect() as plain:
        if mode is Mode.PLAIN:
            plain.send(f"GET http://{ASKED}/v1/x HTTP/1.1\r\nHost: {ASKED}\r\n{fields}\r\n".encode())
            return plain.rest()
    with proxy.inside(ASKED, 443, "http/1.1") as wire:
        wire.send(f"GET /v1/x HTTP/1.1\r\nHost: {ASKED}\r\n{fields}\r\n".encode())
        return wire.rest()


def clean(reply: Reply) -> None:
    """Nothing of the secret is in it."""
    for form in FORMS:
        assert form.encode() not in reply.whole


def coded(text: str) -> dict[str, tuple[str, bytes]]:
    """A text in each coding that is understood, and as the head names it."""
    raw = zlib.compressobj(wbits=-15)
    data = text.encode()
    return {
        "gzip": ("gzip", gzip.compress(data)),
        "x-gzip": ("X-GZip", gzip.compress(data)),
        "gzip-members": ("gzip", gzip.compress(data[:30]) + gzip.compress(data[30:])),
        "deflate": ("deflate", zlib.compress(data)),
        "deflate-raw": ("deflate", raw.compress(data) + raw.flush()),
        "identity": ("identity", data),
    }


ECHO = json.dumps({"headers": {"X-Api-Key": f"Key {SECRET}", "b": base64.b64encode(SECRET.encode()).decode()}})


@carried("mode", *EVERY)
def test_an_echo_in_the_body_is_replaced(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """As httpbin's `/headers` does it."""
    proxy = begin(rules(origin))
    with sending(origin, mode, {"content-type": "application/json"}, ECHO.encode()):
        reply = ask(proxy, mode)
    assert reply.status == 200
    clean(reply)
    assert json.loads(reply.body)["headers"]["X-Api-Key"] == f"Key {SHOWN}"


@carried("mode", *EVERY)
@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
def test_an_answer_offers_no_parts(mode: Mode, kind: str, begin: Callable[..., Proxy], origin: Origins) -> None:
    """`Range` does not go up: a client that believed the server would get the whole body for each part."""
    proxy = begin(rules(origin))
    with sending(origin, mode, {"content-type": kind, "accept-ranges": "bytes"}, b"ok"):
        reply = ask(proxy, mode)
    assert (reply.status, reply.body, reply.field("accept-ranges")) == (200, b"ok", None)


@carried("mode", *EVERY)
def test_an_echo_in_the_head_is_replaced(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """In a redirect, a cookie, any other value; a field whose name holds it is gone."""
    proxy = begin(rules(origin))
    fields = {
        "location": f"https://x.test/?key={SECRET}",
        "set-cookie": f"k={base64.b64encode(SECRET.encode()).decode()}; Path=/",
        f"x-{SECRET}": "1",
        "x-other": "stays",
    }
    with sending(origin, mode, fields, b"ok"):
        reply = ask(proxy, mode)
    clean(reply)
    assert reply.field("location") == f"https://x.test/?key={SHOWN}"
    assert (reply.field("set-cookie") or "").startswith(f"k={SHOWN}")
    assert reply.field("x-other") == "stays"


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_an_echo_in_the_reason_phrase_is_replaced(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """HTTP/1 alone has one."""
    proxy = begin(rules(origin))
    with origin.behaving(answer_raw(http1("", b"no", status=f"400 Bad {SECRET}"))):
        reply = ask(proxy, mode)
    clean(reply)
    assert (reply.status, reply.phrase) == (400, f"Bad {SHOWN}")


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_an_echo_cut_over_chunks_is_replaced(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """One byte a chunk, each sent on its own, and again behind the body and before the head."""
    proxy = begin(rules(origin))
    early = f"HTTP/1.1 103 Early\r\nLink: <https://x.test/{SECRET}>\r\n\r\n".encode()

    def trickle(stream: Stream) -> None:
        stream.request()
        stream.send(early + http1("", b"", length=False))
        for byte in f"<{SECRET}>".encode():
            stream.send(b"1\r\n%c\r\n" % byte)
        stream.send(f"0\r\nX-Late: {SECRET}\r\n\r\n".encode())

    with origin.behaving(trickle):
        whole = raw(proxy, mode, "Connection: close\r\n")
    assert SECRET.encode() not in whole
    assert whole.replace(b"\r\n", b"").count(b"egress:canary") >= 1


@carried("mode", (Mode.TLS2,))
def test_an_echo_in_trailers_of_http2_is_replaced(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """The body ends, and fields follow."""
    proxy = begin(rules(origin))
    trailers = [("grpc-status", "0"), ("grpc-message", f"key {SECRET}"), (f"x-{SECRET}", "1")]
    behaviour = answering([(":status", "200")], f"<{SECRET}>".encode(), trailers, pieces=5)
    with origin.behaving(behaviour, alpn=("h2",)), proxy.http2(ASKED, 443) as client:
        stream = client.request(head(ASKED, "/v1/x"))
        reply = client.reply(stream)
        seen = client.streams[stream].trailers
    assert mode is Mode.TLS2
    assert reply.body == f"<{SHOWN}>".encode()
    assert dict(seen) == {"grpc-status": "0", "grpc-message": f"key {SHOWN}"}


CODINGS = tuple(coded(""))


@carried("mode, coding", *[(mode, coding) for (mode,) in EVERY for coding in CODINGS])
def test_a_coded_echo_is_decoded_and_replaced(
    mode: Mode, coding: str, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """It goes on decoded, without what was said of the coded bytes."""
    proxy = begin(rules(origin))
    name, data = coded(ECHO)[coding]
    fields = {"content-encoding": name, "etag": '"strong"', "content-type": "application/json", "digest": "x"}
    with sending(origin, mode, fields, data):
        reply = ask(proxy, mode)
    assert reply.status == 200
    clean(reply)
    assert json.loads(reply.body)["headers"]["X-Api-Key"] == f"Key {SHOWN}"
    if coding != "identity":
        assert (reply.field("content-encoding"), reply.field("etag"), reply.field("digest")) == (None, None, None)


UNREADABLE = [
    # content-encoding, content-type, what the rule says -> whether it is refused
    ("br", "text/html", "", True),
    ("zstd", "", "", True),
    ("made-up", "application/json", "", True),
    ("gzip, gzip", "application/json", "", True),
    ("br", "image/svg+xml", "", True),
    ("br", "image/png", "", False),
    ("zstd", "application/octet-stream", "", False),
    ("br", "image/png", "scrub: refuse", True),
    ("br", "text/html", "scrub: pass", False),
]


@carried("mode, case", *[(mode, case) for (mode,) in EVERY for case in range(len(UNREADABLE))])
def test_what_cannot_be_read_is_refused_before_it_is_sent(
    mode: Mode, case: int, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """Our page in place of the answer; or the answer as it is, where it may pass."""
    coding, kind, said, refused = UNREADABLE[case]
    proxy = begin(rules(origin, said) if said else rules(origin))
    fields = {"content-encoding": coding, "x-echo": SECRET} | ({"content-type": kind} if kind else {})
    with sending(origin, mode, fields, b"\x01\x02unreadable"):
        reply = ask(proxy, mode)
    clean(reply)
    row, outcome = proxy.ledger.only()
    assert row.verdict == "allow"
    if refused:
        assert (reply.status, reply.reason) == (502, "response-unreadable")
        assert b"unreadable\n" not in reply.body
        assert reply.field("x-echo") is None
        assert (outcome.error or "").startswith("response-unreadable")
    else:
        assert (reply.status, reply.body) == (200, b"\x01\x02unreadable")
        assert (reply.field("content-encoding"), reply.field("x-echo")) == (coding, SHOWN)


COMPRESSED = [
    {"content-type": "application/grpc", "grpc-encoding": "gzip"},
    {"content-type": "application/grpc-web+proto", "grpc-encoding": "gzip"},
    {"content-type": "application/connect+proto", "connect-content-encoding": "gzip"},
    {"content-type": "application/grpc"},
]


def message(data: bytes, flags: int = 0) -> bytes:
    """A message of gRPC."""
    return bytes([flags]) + len(data).to_bytes(4) + data


@carried("mode, case", *[(mode, case) for (mode,) in EVERY for case in range(len(COMPRESSED))])
def test_compressed_messages_are_refused(mode: Mode, case: int, begin: Callable[..., Proxy], origin: Origins) -> None:
    """A client asks for them by headers of their own; where the head tells nothing, the message itself does."""
    proxy = begin(rules(origin))
    hidden = gzip.compress(f"<{SECRET}>".encode())
    with sending(origin, mode, COMPRESSED[case], message(hidden, 1)):
        reply = ask(proxy, mode)
    assert hidden not in reply.whole
    _, outcome = proxy.ledger.only()
    assert (outcome.error or "").startswith("response-unreadable")


@carried("mode", *EVERY)
def test_an_echo_in_a_message_of_grpc_is_covered(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """As long as it was: a message declares its length, and so does each text in it."""
    proxy = begin(rules(origin))
    said = message(b"\x0a\x05first") + message(b"<%s>" % SECRET.encode())
    with sending(origin, mode, {"content-type": "application/grpc", "grpc-encoding": "identity"}, said):
        reply = ask(proxy, mode)
    assert (reply.status, reply.body) == (200, said.replace(SECRET.encode(), b"*" * len(SECRET)))


WIDE = [
    "text/plain; charset=utf-16",
    'application/json; charset="UTF-16LE"',
    "text/plain;charset=utf-7",
    "a/b;charset=cp037",
]


@carried("mode, kind", *[(mode, kind) for (mode,) in EVERY for kind in WIDE])
def test_a_text_in_which_ascii_is_not_ascii_is_refused(
    mode: Mode, kind: str, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """A client can ask some servers for it, and would read what nobody found."""
    proxy = begin(rules(origin))
    with sending(origin, mode, {"content-type": kind}, SECRET.encode("utf-16")):
        reply = ask(proxy, mode)
    assert reply.reason == "response-unreadable"
    assert SECRET.encode("utf-16-le") not in reply.whole


@carried("mode", *EVERY)
def test_a_coding_that_is_a_lie_hides_nothing(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """What may pass unread, as a binary type, is looked at as it stands."""
    proxy = begin(rules(origin))
    with sending(origin, mode, {"content-type": "image/png", "content-encoding": "br"}, f"<{SECRET}>".encode()):
        reply = ask(proxy, mode)
    clean(reply)
    assert (reply.body, reply.field("content-encoding")) == (f"<{SHOWN}>".encode(), "br")


@carried("mode", *EVERY)
def test_an_echo_in_an_escaped_name_of_a_field_is_gone(
    mode: Mode, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """A name may hold percent signs."""
    proxy = begin(rules(origin))
    escaped = "".join(f"%{ord(character):02x}" for character in SECRET)
    with sending(origin, mode, {f"x-{escaped}": "1", "x-100%": "2"}, b"ok"):
        reply = ask(proxy, mode)
    assert (reply.status, reply.field("x-100%")) == (200, "2")
    assert escaped.encode() not in reply.whole


@carried("mode", *EVERY)
def test_an_answer_is_asked_for_whole_and_uncoded(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """What the client asks for is not passed on: a part could be a single byte of the secret."""
    proxy = begin(rules(origin))
    asked = (("accept-encoding", "gzip, br"), ("range", "bytes=3-3"), ("if-range", '"x"'), ("accept_encoding", "br"))
    asked += (("a-im", "gzip"), ("accept-charset", "utf-16"))
    asked += (("grpc-accept-encoding", "gzip"), ("connect-accept-encoding", "gzip"))
    with sending(origin, mode, {}, b"ok"):
        assert ask(proxy, mode, more=asked).status == 200
    (request,) = [each for seen in origin.connections for each in seen.requests]
    fields = request.fields if hasattr(request, "fields") else request
    sent = {(_text(name), _text(value)) for name, value in fields}
    assert {value for name, value in sent if name == "accept-encoding"} == {"identity"}
    gone = {"range", "if-range", "accept_encoding", "a-im", "accept-charset"}
    assert not {name for name, _ in sent} & (gone | {"grpc-accept-encoding", "connect-accept-encoding"})


@carried("mode, status", *[(mode, status) for (mode,) in EVERY for status in ("206", "226")])
def test_a_part_that_nobody_asked_for_is_refused(
    mode: Mode, status: str, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """A server that sends one byte all the same, or only what changed."""
    proxy = begin(rules(origin))
    with origin.behaving(
        answering([(":status", status)], b"c")
        if mode is Mode.TLS2
        else answer_raw(http1("", b"c", status=f"{status} P")),
        alpn=("h2",) if mode is Mode.TLS2 else ("http/1.1",),
    ):
        assert ask(proxy, mode).reason == "response-unreadable"


@carried("mode", *EVERY)
def test_a_request_without_a_secret_is_left_alone(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """Codings, ranges and bodies pass as they are."""
    proxy = begin(policy(port_of(origin), inject=""))
    with sending(origin, mode, {"content-encoding": "br", "etag": '"s"'}, b"\x01\x02"):
        reply = ask(proxy, mode, more=(("range", "bytes=3-3"), ("accept-encoding", "br")))
    assert (reply.status, reply.body, reply.field("content-encoding")) == (200, b"\x01\x02", "br")


DAMAGED = {
    "cut": lambda data: data[:-9],
    "broken": lambda data: data[:40] + bytes(20) + data[60:],
    "no gzip at all": lambda _: b"<html>" * 20,
}


@carried("mode, damage", *[(mode, damage) for (mode,) in EVERY for damage in DAMAGED])
def test_a_damaged_coding_never_looks_whole(
    mode: Mode, damage: str, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """A page of ours while nothing was sent, else the answer breaks off."""
    proxy = begin(rules(origin))
    data = DAMAGED[damage](gzip.compress((ECHO * 50).encode()))
    with sending(origin, mode, {"content-encoding": "gzip"}, data):
        if mode is Mode.TLS2:
            assert ask(proxy, mode).status in {0, 502}
        else:
            whole = raw(proxy, mode)
            assert whole.startswith(b"HTTP/1.1 502") or not whole.endswith(b"0\r\n\r\n")
    _, outcome = proxy.ledger.only()
    assert (outcome.error or "").startswith("response-unreadable")


@carried("mode", *EVERY)
def test_a_bomb_breaks_off(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """What grows a thousandfold is never held, and never looks whole."""
    proxy = begin(rules(origin))
    with sending(origin, mode, {"content-encoding": "gzip"}, gzip.compress(bytes(64 << 20))):
        try:
            reply = ask(proxy, mode)
        except (OSError, AssertionError, ValueError):
            reply = None
    assert reply is None or reply.status in {0, 502} or len(reply.body) < 32 << 20
    _, outcome = proxy.ledger.only()
    assert (outcome.error or "").startswith("response-unreadable")


@carried("mode", *EVERY)
def test_a_scrubber_that_fails_ends_the_answer(
    mode: Mode, begin: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT fail-closed: not a byte of the body passes unsearched."""
    proxy = begin(rules(origin))

    def fail(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(scrub_module.Scrub, "feed", fail)
    with sending(origin, mode, {}, b"x" * 3000 + SECRET.encode()):
        try:
            reply = ask(proxy, mode)
        except (OSError, AssertionError, ValueError):
            reply = None
    assert reply is None or b"xxx" not in reply.whole
    _, outcome = proxy.ledger.only()
    assert outcome.error


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_an_answer_that_is_torn_off_is_torn_for_the_client(
    mode: Mode, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """What was held back at the tear goes nowhere: it may be the beginning of a secret."""
    proxy = begin(rules(origin))
    half = SECRET[:10].encode()

    def tear(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<" + half)

    with origin.behaving(tear):
        whole = raw(proxy, mode)
    assert half not in whole
    assert not whole.endswith(b"0\r\n\r\n")


@carried("mode, method, status", *[
    (mode, *case) for (mode,) in EVERY[:2] for case in (("HEAD", "200 OK"), ("GET", "204 No"), ("GET", "304 Not"))
])  # fmt: skip
def test_an_answer_without_a_body_ends_with_its_head(
    mode: Mode, method: str, status: str, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """No chunk, no length that is not so; and the connection goes on."""
    proxy = begin(rules(origin))
    rows = f"Content-Encoding: br\r\nX-Echo: {SECRET}\r\n" + ("Content-Length: 9\r\n" if method == "HEAD" else "")
    with origin.behaving(answer_raw(f"HTTP/1.1 {status}\r\n{rows}\r\n".encode())):
        if mode is Mode.PLAIN:
            wire, target = proxy.connect(), f"http://{ASKED}"
        else:
            tunnel, _ = proxy.tunnel(ASKED, 443)
            wire, target = proxy.secure(tunnel, ASKED, "http/1.1"), ""
        with wire:
            for _ in range(2):
                wire.send(f"{method} {target}/v1/x HTTP/1.1\r\nHost: {ASKED}\r\n\r\n".encode())
                seen = wire.until(b"\r\n\r\n")
                assert seen is not None
                assert status.encode()[:3] in seen
                assert SECRET.encode() not in seen
                assert SHOWN.encode() in seen


@pytest.mark.parametrize("carrier", Carrier, indirect=True)
def test_a_small_answer_keeps_a_length(begin: Callable[..., Proxy], origin: Origins, carrier: Carrier) -> None:
    """Where all of it came with its head, the front says how long it is, cleaned; the mitm lane chunks."""
    proxy = begin(rules(origin))
    with origin.behaving(answer_raw(http1("", ECHO.encode()))):
        reply = ask(proxy, Mode.TLS1)
    clean(reply)
    if carrier is Carrier.FRONT and reply.field("content-length") is not None:
        assert reply.field("content-length") == str(len(reply.body))
    else:
        assert reply.field("transfer-encoding") == "chunked"


@pytest.mark.parametrize("carrier", Carrier, indirect=True)
def test_an_event_goes_on_as_soon_as_it_is_whole(begin: Callable[..., Proxy], origin: Origins) -> None:
    """A stream of events is not held back for what may come."""
    proxy = begin(rules(origin))

    def events(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = f"data: {number} {SECRET}\n\n".encode()
            stream.send(b"%x\r\n%s\r\n" % (len(event), event))
            # The next one comes only after the client has told that it has this one.
            stream.receive()
        stream.send(b"0\r\n\r\n")

    with origin.behaving(events), proxy.inside(ASKED, 443, "http/1.1") as wire:
        wire.send(f"POST /v1/x HTTP/1.1\r\nHost: {ASKED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert wire.until(b"\r\n\r\n") is not None
        for number in range(3):
            seen = wire.until(b"\n\n")
            assert seen is not None
            assert f"data: {number} {SHOWN}".encode() in seen
            wire.send(b"1\r\nx\r\n")


@pytest.mark.parametrize("carrier", Carrier, indirect=True)
@pytest.mark.parametrize("begun", [1, 8, len(SECRET) - 1])
def test_what_waits_does_not_tell_whether_it_is_right(begin: Callable[..., Proxy], origin: Origins, begun: int) -> None:
    """Who can have a server say what he likes would else try the secret character by character."""
    proxy = begin(rules(origin))

    def echo(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        while data := stream.receive():
            stream.send(data)

    def passes(guess: str) -> bytes:
        """What comes of a guess before anything else is said."""
        with origin.behaving(echo), proxy.inside(ASKED, 443, "http/1.1") as wire:
            wire.send(f"POST /v1/x HTTP/1.1\r\nHost: {ASKED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            assert wire.until(b"\r\n\r\n") is not None
            text = f"line\n{guess}".encode()
            wire.send(b"%x\r\n%s\r\n" % (len(text), text))
            wire.carrier.settimeout(0.3)
            seen = b""
            with contextlib.suppress(TimeoutError):
                while data := wire.receive():
                    seen += data
            return seen

    right, wrong = SECRET[:begun], SECRET[: begun - 1] + "#"
    assert (
        passes(right).replace(right.encode(), b"") == passes(wrong).replace(wrong.encode(), b"") == b"5\r\nline\n\r\n"
    )


@pytest.mark.parametrize("carrier", Carrier, indirect=True)
def test_the_answer_to_a_websocket_handshake_is_cleaned(begin: Callable[..., Proxy], origin: Origins) -> None:
    """The head of a 101; messages as docs/limits.md says."""
    port = port_of(origin)
    gateway = f'{{allow: "{REACHED}:{port}", protocol: wss, addresses: [127.0.0.0/8]}}'
    proxy = begin(policy(port, gateway=gateway))

    def echoing(stream: Stream) -> None:
        accept(stream, f"X-Echo: {SECRET}\r\n".encode())
        text = f"<{SECRET}>".encode()
        stream.send(bytes([0x81, len(text)]) + text)
        stream.receive()

    with origin.behaving(echoing), proxy.connect() as wire:
        fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13"
        wire.send(f"GET http://{ASKED}/v1/ws HTTP/1.1\r\nHost: {ASKED}\r\n{fields}\r\n\r\n".encode())
        reply = wire.reply("CONNECT")
        assert (reply.status, reply.field("x-echo")) == (101, SHOWN)
        assert SECRET.encode() not in receive_frame(wire)


def _text(value: bytes | str) -> str:
    return (value.decode() if isinstance(value, bytes) else value).lower()

"""Laws that hold for any bytes: parsers never raise, never change their mind, and never accept what h11 does not.

The mutation fuzzer is seeded, so a failure repeats; `SEED` may be changed to search elsewhere.
"""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.wire.chunked import ChunkedChecker
from egress.wire.client_hello import ClientHello, parse_client_hello
from egress.wire.head import (
    Chunked,
    ContentLength,
    Framing,
    HeadLimits,
    NeedMore,
    NoBody,
    Reject,
    RequestHead,
    ResponseHead,
    TargetForm,
    UntilClose,
    Version,
    parse_request_head,
    parse_response_head,
    response_framing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    type Outcome = RequestHead | ResponseHead | ClientHello | NeedMore | Reject

SEED = 6
ROUNDS = 12_000
SMALL = HeadLimits(bytes=300, fields=6, line=120)

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a/b%20c?d=e&f[]=g HTTP/1.1\r\nHost: a.test:8080\r\nAccept: */*\r\nX-Y:  \t z \t\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nhost:[::1]:80\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"GET http://a.test:80/x?y HTTP/1.1\r\nHost: a.test:80\r\nConnection: close, x\r\n\r\n",
    b"GET https://a.test HTTP/1.1\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
    b"GET /o HTTP/1.1\r\nHost: a\r\nX: \xe9\xff\r\n\r\n",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 404 Not Found \xe9\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nab",
)
PIECES = (
    b"\r\n", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\x80", b"\xff", b"#",
    b"\\", b"//", b"@",
    b"%", b"%2e", b"*", b"?", b"[", b"]", b"{", b'"', b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"http/1.1",
    b"GET ", b"CONNECT ",
    b"OPTIONS ", b"http://", b"\r\nHost: b.test", b"\r\nContent-Length: 5", b"\r\nContent-Length: 05",
    b"\r\nContent-Length: 6",
    b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: identity", b"\r\nExpect: x", b"\r\n ",
    b"\r\n\t", b" :", b"\r\n\r\n",
    b"\r\nX: " + b"y" * 90, b"0", b"-", b"+", b"_", b"1 200 ",
)  # fmt: skip


def mutants(seeds: tuple[bytes, ...], rounds: int) -> Iterator[bytes]:
    """Give seeds with a few random changes each: pieces put in, bytes replaced, spans cut, doubled or spliced."""
    chance = random.Random(SEED)  # noqa: S311 -- repeatable by intent
    for _ in range(rounds):
        data = chance.choice(seeds)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
            at = chance.randrange(len(data) + 1)
            to = min(len(data), at + chance.choice((0, 0, 1, 1, 2, 7, 30)))
            other = chance.choice(seeds)
            middle = chance.choice(
                (chance.choice(PIECES), bytes([chance.randrange(256)]), b"", data[at:to] * 2, other[at:], other[at:to])
            )
            data = data[:at] + middle + data[to:]
        yield data


def in_pieces(
    data: bytes, cuts: list[int], parse: Callable[[bytearray, NeedMore | None], Outcome]
) -> tuple[Outcome, int]:
    """Parse a growing buffer, giving the hint back; stop at the first answer. Tells how much was there by then."""
    buffer, hint, outcome, end = bytearray(), None, parse(bytearray(), None), 0
    for end in [*sorted(cuts), len(data)]:
        buffer += data[len(buffer) : end]
        outcome = parse(buffer, hint)
        if not isinstance(outcome, NeedMore):
            break
        hint = outcome
    return outcome, end


def check_laws(data: bytes, cuts: list[int], parse: Callable[[bytes | bytearray, NeedMore | None], Outcome]) -> Outcome:
    """A prefix never says more than the whole does, and cutting changes nothing."""
    whole = parse(data, None)
    for cut in cuts:
        prefix = parse(data[:cut], None)
        if isinstance(prefix, Reject):
            assert isinstance(whole, Reject)
        elif not isinstance(prefix, NeedMore):
            assert prefix == whole
    outcome, _ = in_pieces(data, cuts, parse)
    if isinstance(whole, Reject):
        assert isinstance(outcome, Reject)
    elif isinstance(whole, NeedMore):
        assert isinstance(outcome, NeedMore)
    else:
        assert outcome == whole
    return whole


def rendered(head: RequestHead) -> bytes:
    """Write a head anew from what was read of it."""
    target = head.target
    text = target.origin
    if target.form is TargetForm.ABSOLUTE:
        text = f"{target.scheme}://{target.authority}" + ("" if target.path == "*" else target.origin)
    elif target.form is TargetForm.AUTHORITY:
        text = target.authority or ""
    lines = [f"{head.method} {text} HTTP/{head.version}".encode(), *(b": ".join(field) for field in head.fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def events_after(connection: h11.Connection, framing: Framing | UntilClose) -> list[type]:
    """Feed h11 the body that `framing` calls for, and list what it reads."""
    match framing:
        case NoBody():
            body = b""
        case ContentLength(length):
            body = b"x" * min(length, 64)
        case Chunked():
            body = b"1\r\nx\r\n0\r\n\r\n"
        case UntilClose():
            body = b"xx"
    if body:
        connection.receive_data(body)
    events: list[type] = []
    while True:
        event = connection.next_event()
        kind = type(event) if not isinstance(event, type) else event
        if kind is h11.Data and not event.data:
            continue
        events.append(kind)
        if kind in {h11.EndOfMessage, h11.NEED_DATA, h11.PAUSED}:
            return events


def expected_after(framing: Framing | UntilClose) -> list[type]:
    """List what h11 must read then if it sees the body end at the same byte."""
    match framing:
        case NoBody() | ContentLength(0):
            return [h11.EndOfMessage]
        case ContentLength(length) if length > 64:
            return [h11.Data, h11.NEED_DATA]
        case ContentLength() | Chunked():
            return [h11.Data, h11.EndOfMessage]
        case UntilClose():
            return [h11.Data, h11.NEED_DATA]


def check_against_h11(head: RequestHead, data: bytes) -> None:
    """What we accept, h11 accepts, with the same method, target, fields and end of the body."""
    raw = data[: head.length]
    fields = list(head.fields)
    if head.host is None and head.version is Version.HTTP_11:
        raw, fields = raw[:-2] + b"Host: a\r\n\r\n", [*fields, (b"Host", b"a")]
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(raw)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.method == head.method.encode()
    assert request.target == raw.split(b" ", 2)[1]
    assert request.http_version.decode() == head.version
    # h11 writes the coding in lower case.
    lowered = [(name.lower(), value) for name, value in fields]
    assert list(request.headers) == [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in lowered]
    assert events_after(server, head.framing) == expected_after(head.framing)


def check_response_against_h11(head: ResponseHead, data: bytes, method: str) -> None:
    """What we accept of an upstream, h11 accepts, and ends the body at the same byte."""
    framing = response_framing(head, method)
    if isinstance(framing, Reject) or head.status == 101:
        return  # refused, or a tunnel: h11 refuses a 101 that no request asked for
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data[: head.length])
    response = client.next_event()
    assert isinstance(response, h11.InformationalResponse if head.interim else h11.Response)
    assert (response.status_code, response.reason) == (head.status, head.reason)
    if not head.interim:
        assert events_after(client, framing) == expected_after(framing)


def test_mutated_requests_keep_the_laws() -> None:
    """No mutant raises, no prefix outruns its whole, and h11 agrees on every head that is accepted."""
    chance = random.Random(SEED)  # noqa: S311 -- repeatable by intent
    counts = {RequestHead: 0, NeedMore: 0, Reject: 0}
    for data in mutants(REQUESTS, ROUNDS):
        cuts = [chance.randrange(len(data) + 1) for _ in range(3)]
        limits = SMALL if chance.random() < 0.2 else HeadLimits()
        head = check_laws(data, cuts, lambda part, hint, limits=limits: parse_request_head(part, limits, resume=hint))
        counts[type(head)] += 1
        if isinstance(head, RequestHead):
            check_against_h11(head, data)
            again = parse_request_head(rendered(head))
            assert isinstance(again, RequestHead)
            assert (again.method, again.target, again.fields) == (head.method, head.target, head.fields)
            assert (again.framing, again.host, again.version) == (head.framing, head.host, head.version)
    # A fuzzer that reaches only one answer tests nothing.
    assert all(count > ROUNDS / 100 for count in counts.values()), counts


def test_mutated_responses_keep_the_laws() -> None:
    """The same for responses, as answers to GET and to HEAD."""
    chance = random.Random(SEED)  # noqa: S311 -- repeatable by intent
    counts = {ResponseHead: 0, NeedMore: 0, Reject: 0}
    for data in mutants(RESPONSES, ROUNDS // 2):
        cuts = [chance.randrange(len(data) + 1) for _ in range(3)]
        head = check_laws(data, cuts, lambda part, hint: parse_response_head(part, resume=hint))
        counts[type(head)] += 1
        if isinstance(head, ResponseHead):
            for method in ("GET", "HEAD"):
                check_response_against_h11(head, data, method)
    assert all(count > ROUNDS / 200 for count in counts.values()), counts


def test_mutated_chunked_bodies_end_where_h11_ends_them() -> None:
    """A body that the checker calls complete is complete to h11 too, with the same data and the same rest."""
    seeds = (b"5\r\nhello\r\n0\r\n\r\n", b"1;a=b\r\nx\r\nA\r\n0123456789\r\n0\r\nX-T: y\r\n\r\n", b"0\r\n\r\nGET")
    complete = 0
    for body in mutants(seeds, ROUNDS // 2):
        checker = ChunkedChecker()
        if checker.feed(body) is not None or not checker.complete:
            continue
        complete += 1
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        assert isinstance(server.next_event(), h11.Request)
        data = b""
        while isinstance(event := server.next_event(), h11.Data):
            data += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert data == b"".join(body[start:end] for start, end in checker.spans)
        assert server.trailing_data[0] == body[checker.consumed :]
    assert complete > ROUNDS / 200


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_keep_the_laws(data: bytes, cuts: list[int]) -> None:
    """Bytes without any structure do not raise either."""
    check_laws(data, cuts, lambda part, hint: parse_request_head(part, SMALL, resume=hint))
    check_laws(data, cuts, lambda part, hint: parse_response_head(part, SMALL, resume=hint))
    check_laws(data, cuts, lambda part, _: parse_client_hello(part))


NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Expect", b"X-A", b"x", b"", b"a b", b"\xe9"]
)
VALUES = (
    st.sampled_from([b"a.test", b"5", b"chunked", b"100-continue", b"", b" ", b"\x00", b"a\rb", b"a, b"]) | st.binary()
)
LINES = st.sampled_from([request.split(b"\r\n", 1)[0] for request in REQUESTS]) | st.binary(max_size=40)


@given(LINES, st.lists(st.tuples(NAMES, VALUES), max_size=6), st.lists(st.integers(0, 200), max_size=4))
def test_heads_of_any_fields_keep_the_laws(line: bytes, fields: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """Well-formed and ill-formed lines in any mixture: the laws hold, and h11 agrees with what is accepted."""
    data = b"\r\n".join([line, *(b":".join(field) for field in fields), b"", b""])
    head = check_laws(data, cuts, lambda part, hint: parse_request_head(part, resume=hint))
    if isinstance(head, RequestHead):
        check_against_h11(head, data)


@given(st.binary(max_size=60), st.integers(0, 80), st.integers(0, 9), st.booleans())
def test_wrong_hint_never_widens(data: bytes, scanned: int, fields: int, in_value: bool) -> None:  # noqa: FBT001
    """INVARIANT a hint never widens: whatever is given as `resume`, only what is accepted without it is accepted."""
    whole = parse_request_head(REQUESTS[2] + data)
    for request in (REQUESTS[2] + data, data + REQUESTS[0]):
        outcome = parse_request_head(request, resume=NeedMore(scanned, fields, in_value))
        assert not isinstance(outcome, RequestHead) or outcome == parse_request_head(request)
    assert isinstance(whole, RequestHead)


def hello_of_python() -> bytes:
    """Take the first flight of Python's TLS client."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="a.test").do_handshake()
    return outgoing.read()


def test_mutated_hellos_keep_the_laws() -> None:
    """Flipped, cut and spliced hellos never raise, and no prefix outruns its whole."""
    chance = random.Random(SEED)  # noqa: S311 -- repeatable by intent
    seed = hello_of_python()
    for data in mutants((seed,), ROUNDS // 2):
        check_laws(data, [chance.randrange(len(data) + 1) for _ in range(2)], lambda part, _: parse_client_hello(part))
    for at in range(len(seed)):
        for bit in range(8):
            parse_client_hello(seed[:at] + bytes([seed[at] ^ 1 << bit]) + seed[at + 1 :])


def test_cost_is_linear_in_a_head_that_comes_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hint, a client that sends single bytes makes us look at each only a few times, not once a byte."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: " + b"y" * 5000 + b"\r\n" + b"z: w\r\n" * 50 + b"\r\n"
    looked_at = 0

    class Counted(bytearray):
        def find(self, wanted: bytes, start: int = 0, end: int = 1 << 30) -> int:
            nonlocal looked_at
            looked_at += max(0, min(len(self), end) - start)
            return super().find(wanted, start, end)

    import egress.wire.fields as module

    scanned = module.part_of_fields

    def counted(part: bytes | bytearray, limits: HeadLimits, resume: NeedMore) -> NeedMore | Reject:
        nonlocal looked_at
        looked_at += len(part) - resume.scanned
        return scanned(part, limits, resume)

    monkeypatch.setattr(module, "part_of_fields", counted)
    buffer, hint, outcome = Counted(), None, None
    for byte in data:
        buffer.append(byte)
        outcome = parse_request_head(buffer, resume=hint)
        if isinstance(outcome, NeedMore):
            hint = outcome
    assert isinstance(outcome, RequestHead)
    assert looked_at < 12 * len(data)

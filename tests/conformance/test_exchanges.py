"""What one request and one answer do not show: order, pipelining, early answers, interim ones, switches, ends."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from conformance.cases import HOST, Way
from conformance.differences import differs
from conformance.origin import OK, EndedError, answering
from conformance.stage import GET_ONLY, KEY, KEYED, Stage
from harness.proxy import CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.client import Answer, Client
    from conformance.origin import Conversation, Seen

WAYS = pytest.mark.parametrize("way", list(Way))
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def request(way: Way, path: str = "/", method: str = "GET", more: bytes = b"", host: str = HOST) -> bytes:
    """A request's head, whole."""
    scheme = f"http://{host}" if way is Way.PLAIN else ""
    return f"{method} {scheme}{path} HTTP/1.1\r\nHost: {host}\r\n".encode() + more + b"\r\n"


def answer_path(conversation: Conversation) -> None:
    """Answer with the path that was asked for, and the body that came."""
    body = conversation.head.split(b" ", 2)[1] + conversation.body()
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def final(client: Client, method: str = "GET") -> Answer:
    """The next final answer."""
    while True:
        answer = client.answer(method)
        assert answer is not None, "the connection ended without an answer"
        if answer.status >= 200 or answer.status == 101:
            return answer


def sent_on(stage: Stage, marks: dict[Seen, int]) -> bytes:
    """All that the origin has received since."""
    return b"|".join(stage.origin.since(marks).values())


@WAYS
def test_pipelined_requests_are_answered_in_order(stage: Stage, way: Way) -> None:
    """Three in one segment, one with a body: three answers in the order of the requests, and three rows."""
    with stage.origin.scripted(answer_path), stage.client(way) as client:
        post = request(way, "/2", "POST", b"Content-Length: 3\r\n") + b"GET"
        client.send(request(way, "/1") + post + request(way, "/3"))
        assert [final(client).body for _ in range(3)] == [b"/1", b"/2GET", b"/3"]
    assert [row["path"] for row in stage.rows(client.address)] == ["/1", "/2", "/3"]


@WAYS
def test_pipelined_requests_wait_for_a_slow_first_answer(stage: Stage, way: Way) -> None:
    """An answer that takes its time is not overtaken."""
    go = threading.Event()

    def slow(conversation: Conversation) -> None:
        if b"/1 " in conversation.head:
            assert go.wait(8)
        answer_path(conversation)

    with stage.origin.scripted(slow), stage.client(way) as client:
        client.send(request(way, "/1"), request(way, "/2"))
        go.set()
        assert [final(client).body for _ in range(2)] == [b"/1", b"/2"]


@WAYS
@pytest.mark.parametrize("between", [b"\r\n", b"\n", b"X", b"\0"], ids=["crlf", "lf", "letter", "nul"])
def test_bytes_between_requests_end_the_connection(stage: Stage, way: Way, between: bytes) -> None:
    """A byte behind a body belongs to no request: nothing that follows it is one."""
    marks = stage.origin.marks()
    with stage.origin.scripted(answer_path), stage.client(way) as client:
        post = request(way, "/1", "POST", b"Content-Length: 2\r\n") + b"ab"
        client.send(post + between + b" " + request(way, "/smuggled"))
        assert final(client).body == b"/1ab"
        refused = final(client)
        assert (refused.status, refused.reason) == (400, "request-malformed")
        client.say_no_more()
        assert client.rest() == b""
    assert b"smuggled" not in sent_on(stage, marks)
    assert [row["verdict"] for row in stage.rows(client.address)] == ["allow", "deny"]


@WAYS
def test_what_follows_a_malformed_request_is_not_read(stage: Stage, way: Way) -> None:
    """The first is answered, the second refused, the third no longer there."""
    marks = stage.origin.marks()
    with stage.origin.scripted(answer_path), stage.client(way) as client:
        client.send(request(way, "/1") + request(way, "/2", more=b"X-A : b\r\n") + request(way, "/3"))
        assert final(client).body == b"/1"
        assert final(client).reason == "request-malformed"
        client.say_no_more()
        assert client.rest() == b""
    assert b"/3" not in sent_on(stage, marks)
    assert len(stage.rows(client.address)) == 2


@WAYS
def test_what_follows_a_refused_body_is_not_a_request(stage: Stage, way: Way) -> None:
    """A denied request's body is thrown away, or the connection ends: it is never read as the next request."""
    marks = stage.origin.marks()
    inner = request(way, "/smuggled")
    with stage.client(way) as client:
        head = request(way, "/", "TRACE", b"Content-Length: %d\r\n" % len(inner))
        client.send(head + inner)
        assert final(client).reason == "method-not-allowed"
        client.say_no_more()
        assert client.rest() == b""
    assert not stage.origin.since(marks)
    assert len(stage.rows(client.address)) == 1


@WAYS
def test_head_that_comes_byte_by_byte_is_one_request(stage: Stage, way: Way) -> None:
    """However it is segmented."""
    with stage.origin.scripted(answer_path), stage.client(way) as client:
        whole = request(way, "/x", "POST", b"Transfer-Encoding: chunked\r\n") + b"3;a=b\r\nabc\r\n0\r\n\r\n"
        client.send(*(whole[at : at + 1] for at in range(len(whole))))
        assert final(client).body == b"/xabc"
    (row,) = stage.rows(client.address)
    assert (row["bytes_up"], row["bytes_down"]) == (3, 5)


@WAYS
@pytest.mark.parametrize("defect", [b"3\r\nabcX", b"g\r\n", b"0\r\nX-Trailer: canary\r\n\r\n"])
def test_body_that_breaks_later_breaks_off_at_the_origin(stage: Stage, way: Way, defect: bytes) -> None:
    """The first chunk has passed when the defect comes: the origin's connection ends without an end of the body."""
    passed = threading.Event()

    def reads(conversation: Conversation) -> None:
        conversation.until(b"hello\r\n")
        passed.set()
        conversation.until(b"never")

    marks = stage.origin.marks()
    with stage.origin.scripted(reads), stage.client(way) as client:
        client.send(request(way, "/", "POST", b"Transfer-Encoding: chunked\r\n"), b"5\r\nhello\r\n")
        assert passed.wait(8)
        client.send(defect + request(way, "/smuggled"))
        answer = client.answer()
        assert answer is None or answer.reason == "request-malformed"
        client.say_no_more()
        client.rest()
    ((seen, data),) = stage.origin.since(marks).items()
    assert seen.ended.wait(8)
    assert data.endswith(b"5\r\nhello\r\n")
    (row,) = stage.rows(client.address)
    assert str(row["error"]).startswith("request-malformed")


@WAYS
def test_client_that_leaves_within_its_body_leaves_no_whole_request(stage: Stage, way: Way) -> None:
    """The origin's connection ends before the length that was announced."""
    passed = threading.Event()

    def reads(conversation: Conversation) -> None:
        conversation.until(b"hello")
        passed.set()
        conversation.until(b"never")

    marks = stage.origin.marks()
    with stage.origin.scripted(reads), stage.client(way) as client:
        client.send(request(way, "/", "POST", b"Content-Length: 10\r\n") + b"hello")
        assert passed.wait(8)
    ((seen, data),) = stage.origin.since(marks).items()
    assert seen.ended.wait(8)
    assert data.endswith(b"\r\n\r\nhello")
    assert str(stage.rows(client.address)[0]["error"]).startswith("client-closed")


@WAYS
def test_answer_before_the_body_has_ended_is_passed_on(stage: Stage, way: Way) -> None:
    """The client gets it while it still sends; the connection cannot be used for another request."""

    def early(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        conversation.until(b"never")

    marks = stage.origin.marks()
    with stage.origin.scripted(early), stage.client(way) as client:
        client.send(request(way, "/", "POST", b"Content-Length: 100000\r\n") + b"a" * 1000)
        answer = final(client)
        assert (answer.status, answer.body, answer.whole) == (413, b"no", True)
        client.say_no_more()
        assert client.rest() == b""
    assert all(seen.ended.wait(8) for seen in stage.origin.since(marks))
    assert stage.rows(client.address)[0]["status"] == 413


@WAYS
def test_expectation_is_met_once_and_the_body_sent_once(stage: Stage, way: Way) -> None:
    """One 100, then the body, then the answer."""

    def expecting(conversation: Conversation) -> None:
        if conversation.values(b"expect"):
            conversation.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        answer_path(conversation)

    with stage.origin.scripted(expecting), stage.client(way) as client:
        client.send(request(way, "/x", "POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
        interim = client.answer()
        assert interim is not None
        assert interim.status == 100
        client.send(b"hello")
        answer = client.answer()
        assert answer is not None
        assert (answer.status, answer.body) == (200, b"/xhello")
    assert len(stage.rows(client.address)) == 1


@WAYS
def test_expectation_of_a_refused_request_is_not_met(stage: Stage, way: Way) -> None:
    """The page comes in place of 100, and the body that nobody asked for is no request."""
    marks = stage.origin.marks()
    with stage.client(way) as client:
        client.send(request(way, "/", "TRACE", b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
        answer = client.answer()
        assert answer is not None
        assert (answer.status, answer.reason) == (403, "method-not-allowed")
        assert answer.value("connection") == "close"
    assert not stage.origin.since(marks)


@WAYS
def test_expectation_of_an_old_client_is_not_met(stage: Stage, way: Way) -> None:
    """HTTP/1.0 has no interim answers (RFC 9110 section 10.1.1): none is passed on, and none is made."""
    target = f"http://{HOST}/" if way is Way.PLAIN else "/"
    text = f"POST {target} HTTP/1.0\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    script = answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    with stage.origin.scripted(script), stage.client(way) as client:
        client.send(text.encode())
        answer = client.answer()
        assert answer is not None
        assert answer.status == 200


def masked(payload: bytes) -> bytes:
    """A client's text frame."""
    key = b"\x01\x02\x03\x04"
    return b"\x81" + bytes([0x80 | len(payload)]) + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


def frame_of(conversation: Conversation) -> bytes:
    """The payload of the next frame of a client."""
    size = conversation.exactly(2)[1] & 0x7F
    key = conversation.exactly(4)
    return bytes(b ^ key[i % 4] for i, b in enumerate(conversation.exactly(size)))


@WAYS
@pytest.mark.parametrize("together", [True, False])
def test_websocket_carries_frames_both_ways(*, stage: Stage, way: Way, together: bool) -> None:
    """After a 101 that was asked for; frames that come with the 101 are not lost."""
    frames = b"\x81\x05first", b"\x81\x04down"

    def socket_of(conversation: Conversation) -> None:
        conversation.send(SWITCH + frames[0] if together else SWITCH)
        if not together:
            conversation.send(frames[0])
        assert frame_of(conversation) == b"up"
        conversation.send(frames[1])
        conversation.until(b"never")

    with stage.origin.scripted(socket_of), stage.client(way) as client:
        client.send(request(way, "/chat", more=WEBSOCKET))
        answer = final(client)
        assert answer.status == 101
        assert answer.value("upgrade") == "websocket"
        client.send(masked(b"up"))
        while b"".join(frames) not in client.received:
            assert client.receive()
    (row,) = stage.rows(client.address)
    assert (row["status"], row["protocol"]) == (101, "ws" if way is Way.PLAIN else "wss")
    assert row["bytes_up"]
    assert row["bytes_down"]


@WAYS
def test_websocket_is_no_way_around_a_rule_of_methods(stage: Stage, way: Way) -> None:
    """A rule that allows GET alone opens no channel to write."""
    marks = stage.origin.marks()
    with stage.client(way, GET_ONLY) as client:
        client.send(request(way, "/", more=WEBSOCKET, host=GET_ONLY))
        answer = final(client)
        assert answer.status == 403
    assert not stage.origin.since(marks)
    (row,) = stage.rows(client.address)
    assert row["verdict"] == "deny"


@WAYS
def test_websocket_that_is_refused_opens_nothing(stage: Stage, way: Way) -> None:
    """An origin that answers 200 has not switched: what the client sends next is read as a request, and is none."""
    marks = stage.origin.marks()
    with stage.client(way) as client:
        client.send(request(way, "/chat", more=WEBSOCKET), masked(b"canary"))
        assert final(client).status == 200
        assert final(client).reason == "request-malformed"
    assert b"\x81" not in sent_on(stage, marks)


@WAYS
def test_switch_to_something_else_than_was_asked_opens_nothing(stage: Stage, way: Way) -> None:
    """A 101 that names another protocol, or none."""
    script = answering(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\ncanary-bytes")
    marks = stage.origin.marks()
    with stage.origin.scripted(script), stage.client(way) as client:
        client.send(request(way, "/chat", more=WEBSOCKET))
        answer = client.answer()
        assert answer is None or answer.status == 502
        client.send(masked(b"upward-canary"))
        client.say_no_more()
        client.rest()
        assert b"canary-bytes" not in client.received
    assert b"\x81" not in sent_on(stage, marks)
    assert str(stage.rows(client.address)[0]["error"]).startswith("upstream-malformed")


def old(way: Way, more: str = "") -> bytes:
    """A request of HTTP/1.0."""
    target = f"http://{HOST}/" if way is Way.PLAIN else "/"
    return f"GET {target} HTTP/1.0\r\nHost: {HOST}\r\n{more}\r\n".encode()


@WAYS
@pytest.mark.parametrize("end", ["length", "chunks", "close"])
def test_old_client_gets_no_chunks(stage: Stage, way: Way, end: str) -> None:
    """HTTP/1.0 knows none: the body ends by its length or with the connection."""
    answer_as = {
        "length": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        "chunks": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        "close": answering(b"HTTP/1.1 200 OK\r\n\r\nhello", close=True),
    }[end]
    with stage.origin.scripted(answer_as), stage.client(way) as client:
        client.send(old(way))
        answer = final(client)
        assert (answer.body, answer.whole) == (b"hello", True)
        if end != "chunks" or not differs(stage.lane, "chunks for an old client"):
            assert answer.value("transfer-encoding") is None
        client.say_no_more()
        assert client.rest() == b""


@WAYS
def test_old_client_may_keep_its_connection(stage: Stage, way: Way) -> None:
    """If it asks to, and the answer has a length."""
    with stage.client(way) as client:
        client.send(old(way, "Connection: keep-alive\r\n"))
        first = final(client)
        assert first.body == b"ok"
        if differs(stage.lane, "no kept connection for an old client"):
            assert client.rest() == b""
            return
        assert (first.value("connection") or "").lower() == "keep-alive"
        client.send(old(way))
        assert final(client).body == b"ok"
        client.rest()
        assert client.ended


@WAYS
def test_connection_that_the_client_closes_ends_after_its_answer(stage: Stage, way: Way) -> None:
    """`Connection: close` is kept to, and what is behind the request is not read."""
    marks = stage.origin.marks()
    with stage.client(way) as client:
        client.send(request(way, more=b"Connection: close\r\n") + request(way, "/second"))
        assert final(client).body == b"ok"
        assert client.rest() == b""
    assert b"/second" not in sent_on(stage, marks)


def test_answer_that_is_torn_off_is_no_whole_one(stage: Stage) -> None:
    """TLS ends without its own word for it: somebody between may have cut the answer short."""

    def tears(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        raise EndedError(torn=True)

    with stage.origin.scripted(tears), stage.client(Way.TLS) as client:
        client.send(request(Way.TLS))
        answer = final(client)
    if differs(stage.lane, "torn answers without a length pass as whole"):
        assert answer.whole
        return
    assert not answer.whole or answer.status == 502
    assert str(stage.rows(client.address)[0]["error"]).startswith("upstream-")


@WAYS
def test_answer_that_nobody_asked_for_answers_nothing(stage: Stage, way: Way) -> None:
    """Sent on a kept connection between two requests: the second gets its own answer, on another connection."""
    unasked = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary"
    spoke = threading.Event()

    def speaks_twice(conversation: Conversation) -> None:
        conversation.send(OK)
        conversation.send(unasked)
        spoke.set()

    marks = stage.origin.marks()
    with stage.origin.scripted(speaks_twice), stage.client(way) as client:
        client.send(request(way, "/1"))
        assert final(client).body == b"ok"
        assert spoke.wait(8)
        stage.origin.script = answer_path
        client.send(request(way, "/2"))
        assert final(client).body == b"/2"
    shared = [data for data in stage.origin.since(marks).values() if b"/1 " in data and b"/2 " in data]
    assert not shared


@WAYS
def test_connection_that_went_stale_is_replaced(stage: Stage, way: Way) -> None:
    """The origin closes after its first answer: a GET is asked again, once; the client notices nothing."""

    def closes(conversation: Conversation) -> None:
        conversation.send(OK)
        raise EndedError

    with stage.origin.scripted(closes), contextlib.ExitStack() as stack:
        client = stack.enter_context(stage.client(way))
        sent: Counter[str] = Counter()

        def ask() -> Answer:
            sent[client.address] += 1
            client.send(request(way))
            return final(client)

        for _ in range(4):
            answer = ask()
            if differs(stage.lane, "a closed connection is noticed, not replaced") and answer.status == 502:
                assert answer.reason == "upstream-unreachable"
                if answer.value("connection") == "close":
                    client = stack.enter_context(stage.client(way))
                answer = ask()
            assert answer.body == b"ok"
    rows = [row for address, count in sent.items() for row in stage.rows(address, count)]
    answered = [row for row in rows if row["status"] == 200]
    assert len(answered) == 4


@WAYS
def test_post_is_never_sent_twice(stage: Stage, way: Way) -> None:
    """An origin that reads a POST and ends without an answer gets it once."""
    posts: list[bytes] = []

    def takes(conversation: Conversation) -> None:
        if conversation.head.startswith(b"POST"):
            posts.append(conversation.body())
            raise EndedError
        conversation.send(OK)

    with stage.origin.scripted(takes), stage.client(way) as client:
        client.send(request(way))
        assert final(client).status == 200
        client.send(request(way, "/", "POST", b"Content-Length: 5\r\n") + b"hello")
        assert final(client).reason == "upstream-unreachable"
    assert posts == [b"hello"]


def test_connect_inside_connect_opens_nothing(stage: Stage) -> None:
    """Within the tunnel and its TLS, a second CONNECT is a malformed request, and its bytes go nowhere."""
    marks = stage.origin.marks()
    with stage.client(Way.TLS) as client:
        client.send(b"CONNECT evil.test:22 HTTP/1.1\r\nHost: evil.test:22\r\n\r\nSSH-2.0-x\r\n")
        assert final(client, "CONNECT").status >= 400
        client.say_no_more()
        assert b"HTTP/1.1 2" not in client.rest()
    assert not stage.origin.since(marks)


@pytest.mark.parametrize(
    "more",
    [b"X-Api-Key: mine\r\n", b"x_api_key: mine\r\n", b"Connection: X-Api-Key\r\n", b"X-Api-Key : mine\r\n"],
    ids=["given", "other-spelling", "nominated", "space"],
)
def test_injected_field_is_there_once_or_not_at_all(stage: Stage, more: bytes) -> None:
    """Whatever the client says of it: the origin gets the rule's value alone, or no request."""
    marks = stage.origin.marks()
    with stage.client(Way.TLS, KEYED) as client:
        client.send(request(Way.TLS, more=more, host=KEYED))
        answer = final(client)
        assert KEY.encode() not in client.received
    data = sent_on(stage, marks)
    assert b"mine" not in data
    assert data.count(KEY.encode()) == (answer.status == 200)


def test_via_is_added_only_when_asked_for(tmp_path: Path, stages: object) -> None:
    """With the option, both ways, behind a Via that is there; without it (every other test) to nobody."""
    del stages  # marks the test as one that starts a proxy
    for lane in ("http", "mitm"):
        with Stage(tmp_path / lane, lane, config=CONFIG + "upstream: {via: true}\n") as stage:
            marks = stage.origin.marks()
            with stage.client(Way.TLS) as client:
                client.send(request(Way.TLS, more=b"Via: 1.1 inside\r\n"))
                assert b"Via: 1.1 egress" in final(client).fields
            assert b"\r\nVia: 1.1 inside\r\nVia: 1.1 egress\r\n" in sent_on(stage, marks)

"""What a request has in common with the last one: taken over only where working it out anew would give the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from egress.gate.naming import Route, name_request
from egress.policy import Request, parse_host
from egress.proxy.repeats import Repeats
from egress.wire.head import NeedMore, RequestHead, parse_repeated_head, parse_request_head

LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"GET /a?b=c HTTP/1.1",
        b"GET /a HTTP/1.0",
        b"POST /a HTTP/1.1",
        b"HEAD /a HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"GET http://ok.test/a HTTP/1.1",
        b"GET http://evil.test/a HTTP/1.1",
        b"CONNECT ok.test:443 HTTP/1.1",
        b"GET /#f HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET /",
    ]
)
BLOCKS = st.sampled_from(
    [
        b"Host: ok.test\r\n\r\n",
        b"Host: ok.test\r\nAccept: */*\r\n\r\n",
        b"Host: ok.test\r\nAccept: */* \r\n\r\n",
        b"Host: evil.test\r\n\r\n",
        b"host: ok.test\r\n\r\n",
        b"Host: ok.test\r\nContent-Length: 3\r\n\r\nabc",
        b"Host: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Host: ok.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"Host: ok.test\r\nExpect: 100-continue\r\n\r\n",
        b"Host: ok.test\r\n",
        b"\r\n",
    ]
)
ROUTE = Route(parse_host("ok.test"), 443, tls=True)  # type: ignore[arg-type]


@settings(max_examples=600, deadline=None)
@given(LINES, BLOCKS, LINES, BLOCKS)
def test_a_repeated_head_is_what_the_parser_reads(
    line: bytes, block: bytes, next_line: bytes, next_block: bytes
) -> None:
    """INVARIANT one-name: taking over never gives another head than reading does, and never one where that refuses."""
    first = line + b"\r\n" + block
    head = parse_request_head(first)
    if not isinstance(head, RequestHead):
        return
    again = next_line + b"\r\n" + next_block
    kept = first[first.find(b"\r\n") + 2 : head.length]
    repeated = parse_repeated_head(again, head, kept)
    if repeated is not None:
        assert repeated == parse_request_head(again)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(LINES, BLOCKS), min_size=2, max_size=5))
def test_a_request_named_by_its_last_is_the_one_named_anew(messages: list[tuple[bytes, bytes]]) -> None:
    """Whatever came before on the connection."""
    repeats = Repeats()
    for line, block in messages:
        data = line + b"\r\n" + block
        head = repeats.read(data) or parse_request_head(data)
        if isinstance(head, RequestHead):
            repeats.learn(head, data)
            anew = name_request(parse_request_head(data), "agent", ROUTE)  # type: ignore[arg-type]
            taken = repeats.name(head)
            assert taken is None or taken == anew
            if isinstance(anew, Request):
                repeats.named(head, anew)
        else:
            assert isinstance(head, NeedMore) or head.detail


def test_equal_fields_are_taken_over() -> None:
    """Else the two properties above would hold for nothing."""
    repeats = Repeats()
    for path in (b"/a", b"/b?c"):
        data = b"GET " + path + b" HTTP/1.1\r\nHost: ok.test\r\nAccept: */*\r\n\r\n"
        head = repeats.read(data)
        assert (head is None) == (path == b"/a")
        head = head or parse_request_head(data)  # type: ignore[assignment]
        assert isinstance(head, RequestHead)
        repeats.learn(head, data)
        named = repeats.name(head)
        assert (named is None) == (path == b"/a")
        repeats.named(head, name_request(head, "agent", ROUTE))  # type: ignore[arg-type]

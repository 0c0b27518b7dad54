"""Response heads and how the body of a response ends."""

from __future__ import annotations

import pytest

from egress.wire.head import (
    Chunked,
    ContentLength,
    Framing,
    HeadLimits,
    NeedMore,
    NoBody,
    Reject,
    RejectKind,
    ResponseHead,
    UntilClose,
    Version,
    parse_response_head,
    response_framing,
)

BAD_HEADS = (
    b"CANARY\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b" HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 \r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 +20 OK\r\n\r\n",
    b"HTTP/1.1 2_0 OK\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n",
    b"HTTP/1.1\t200 OK\r\n\r\n",
    b"HTTP/1.1 200\tOK\r\n\r\n",
    b"HTTP/1.1 200OK\r\n\r\n",
    b"HTTP/1.2 200 OK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/0.9 200 OK\r\n\r\n",
    b"HTTP/1x1 200 OK\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"HTTP/1.1 200 \x1b[31mOK\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n",
    b"HTTP/1.1 200 O\x7fK\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n",
    b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 02\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
)

STATUS_LINES: tuple[tuple[bytes, Version, int, bytes], ...] = (
    (b"HTTP/1.1 200 OK", Version.HTTP_11, 200, b"OK"),
    (b"HTTP/1.0 404 Not\tFound \xe9", Version.HTTP_10, 404, b"Not\tFound \xe9"),
    (b"HTTP/1.1 200 ", Version.HTTP_11, 200, b""),
    (b"HTTP/1.1 200", Version.HTTP_11, 200, b""),
    (b"HTTP/1.1 100 Continue", Version.HTTP_11, 100, b"Continue"),
    (b"HTTP/1.1 999 ", Version.HTTP_11, 999, b""),
)

NONE, LENGTH, ZERO, CHUNKED = b"", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"

# request method, status, fields, and how the body ends; None means that the response is refused.
BODIES: tuple[tuple[str, int, bytes, Framing | UntilClose | None], ...] = (
    ("GET", 200, NONE, UntilClose()),
    ("GET", 200, LENGTH, ContentLength(5)),
    ("GET", 200, LENGTH + LENGTH, ContentLength(5)),
    ("GET", 200, ZERO, ContentLength(0)),
    ("GET", 200, CHUNKED, Chunked()),
    ("GET", 205, NONE, UntilClose()),
    ("GET", 301, CHUNKED, Chunked()),
    ("GET", 404, NONE, UntilClose()),
    ("HEAD", 200, NONE, NoBody()),
    ("HEAD", 200, LENGTH, NoBody()),
    ("HEAD", 200, CHUNKED, NoBody()),
    ("HEAD", 404, LENGTH, NoBody()),
    ("head", 200, LENGTH, ContentLength(5)),
    ("GET", 304, NONE, NoBody()),
    ("GET", 304, LENGTH, NoBody()),
    ("GET", 304, CHUNKED, NoBody()),
    ("GET", 204, NONE, NoBody()),
    ("GET", 204, ZERO, NoBody()),
    ("GET", 204, LENGTH, None),
    ("GET", 204, CHUNKED, None),
    ("HEAD", 204, LENGTH, None),
    ("GET", 100, NONE, NoBody()),
    ("GET", 103, ZERO, NoBody()),
    ("GET", 103, LENGTH, None),
    ("GET", 101, NONE, NoBody()),
    ("GET", 101, CHUNKED, None),
    ("CONNECT", 200, NONE, NoBody()),
    ("CONNECT", 200, LENGTH, NoBody()),
    ("CONNECT", 299, CHUNKED, NoBody()),
    ("CONNECT", 403, LENGTH, ContentLength(5)),
    ("CONNECT", 403, NONE, UntilClose()),
)


def response(status: int, fields: bytes = b"") -> ResponseHead:
    """Parse a response that must be accepted."""
    head = parse_response_head(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, fields))
    assert isinstance(head, ResponseHead), head
    return head


@pytest.mark.parametrize("data", BAD_HEADS)
def test_malformed_response_head_is_refused(data: bytes) -> None:
    """An upstream's head is held to the same grammar as a client's."""
    assert isinstance(parse_response_head(data), Reject)


@pytest.mark.parametrize(("line", "version", "status", "reason"), STATUS_LINES)
def test_status_line_is_read(line: bytes, version: Version, status: int, reason: bytes) -> None:
    """The phrase may be missing, with or without its space; it never holds a control but HTAB."""
    head = parse_response_head(line + b"\r\nX: y\r\n\r\nbody")
    assert isinstance(head, ResponseHead)
    assert (head.version, head.status, head.reason) == (version, status, reason)
    assert (head.fields, head.length) == (((b"X", b"y"),), len(line) + 10)


@pytest.mark.parametrize(("method", "status", "fields", "framing"), BODIES)
def test_body_ends_where_rfc_9112_section_6_3_says(
    method: str, status: int, fields: bytes, framing: Framing | UntilClose | None
) -> None:
    """Each row of the section's list, and a Reject where a response that has no body declares one."""
    found = response_framing(response(status, fields), method)
    assert isinstance(found, Reject) if framing is None else found == framing


def test_interim_responses_are_1xx_but_101() -> None:
    """After 100 and 103 the real response follows; after 101 it does not."""
    assert [status for status in (100, 101, 102, 103, 199, 200, 304) if response(status).interim] == [
        100,
        102,
        103,
        199,
    ]


def test_every_prefix_of_a_valid_head_waits() -> None:
    """Until its last byte a valid head is never refused."""
    for data in (b"HTTP/1.1 200 OK \xff\r\nA: b\r\nC:\r\n\r\n", b"HTTP/1.0 204\r\n\r\n"):
        for end in range(len(data)):
            assert isinstance(parse_response_head(data[:end]), NeedMore), data[:end]


@pytest.mark.parametrize(
    "prefix",
    [b"h", b"\r", b"HTTP/2", b"HTTP/1.1 0", b"HTTP/1.1 20 ", b"HTTP/1.1 200O", b"HTTP/1.1 200 \x00", b"HTTP/1.1 200\rX",
     b"<html>", b"HTTP/1.1 200 OK\r\n ", b"HTTP/1.1 200 OK\r\nX ", b"HTTP/1.1 200 OK\r\nX: \x00"],
)  # fmt: skip
def test_hopeless_prefix_is_refused_at_once(prefix: bytes) -> None:
    """An upstream that does not speak HTTP is not waited for."""
    assert isinstance(parse_response_head(prefix), Reject)


def test_limits_hold_before_the_head_ends() -> None:
    """An upstream cannot make us hold more than the limits say."""
    limits = HeadLimits(bytes=60, fields=2, line=20)
    for data in (
        b"HTTP/1.1 200 " + b"a" * 20,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 50,
        b"HTTP/1.1 200 OK\r\na:\r\nb:\r\nc:\r\n",
    ):
        reject = parse_response_head(data, limits)
        assert isinstance(reject, Reject)
        assert reject.kind is RejectKind.TOO_LARGE

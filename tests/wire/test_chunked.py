"""Chunk headers, trailer sections, and the checker that follows a chunked body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.wire.chunked import (
    EXTENSIONS_LENGTH,
    ChunkedChecker,
    ChunkHeader,
    Trailers,
    parse_chunk_header,
    parse_trailers,
)
from egress.wire.outcome import NeedMore, Reject, RejectKind

GOOD_HEADERS: tuple[tuple[bytes, int, bytes], ...] = (
    (b"0\r\n", 0, b""),
    (b"000\r\n", 0, b""),
    (b"5\r\n", 5, b""),
    (b"aF\r\n", 175, b""),
    (b"1fffffffffffff\r\n", 2**53 - 1, b""),
    (b"001fffffffffffff\r\n", 2**53 - 1, b""),
    (b"5;a\r\n", 5, b";a"),
    (b"5;a=b;c\r\n", 5, b";a=b;c"),
    (b'5;a="b; \\"c\\" \xff"\r\n', 5, b';a="b; \\"c\\" \xff"'),
)

BAD_HEADERS = (
    b"\r\n",
    b"\n",
    b"5\n",
    b"5\rX",
    b"5\r\r\n",
    b" 5\r\n",
    b"5 \r\n",
    b"5\t\r\n",
    b"+5\r\n",
    b"-5\r\n",
    b"0x5\r\n",
    b"5_0\r\n",
    b"5.0\r\n",
    b"g\r\n",
    b"5h\r\n",
    b"\xd9\xa5\r\n",
    b"20000000000000\r\n",
    b"ffffffffffffffff\r\n",
    b"00000000000000005\r\n",
    b"5;\r\n",
    b"5; a\r\n",
    b"5 ;a\r\n",
    b"5;a=\r\n",
    b"5;=b\r\n",
    b"5;a b\r\n",
    b"5;a\x00\r\n",
    b"5;a\n",
    b"5;a\nb\r\n",
    b"5;a\rb\r\n",
    b'5;a="b\r\n',
    b'5;a="\n"\r\n',
    b'5;a="b"c\r\n',
    b"5;a" + b"b" * 300 + b"\r\n",
)

BAD_TRAILERS = (
    b"\n\r\n",
    b"x\r\n\r\n",
    b" x: y\r\n\r\n",
    b"x : y\r\n\r\n",
    b"x: a\r\n b\r\n\r\n",
    b"x: a\nb\r\n\r\n",
    b"x: \x00\r\n\r\n",
    b": x\r\n\r\n",
    b"Content-Length: 5\r\n\r\n",
    b"x: y\r\ntransfer-ENCODING: chunked\r\n\r\n",
    b"Host: a\r\n\r\n",
    b"Authorization: a\r\n\r\n",
    b"Set-Cookie: a\r\n\r\n",
    b"Connection: a\r\n\r\n",
    b"Trailer: a\r\n\r\n",
    b"x: y\r\n" * 33 + b"\r\n",
    b"x: " + b"y" * 8192 + b"\r\n\r\n",
    b"x: " + b"y" * 8192,
)

# a whole body, then what is wrong with it is in its bytes.
BAD_BODIES = (
    b"5\nhello\n0\n\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    b"5\r\nhello\r\n0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
)


def read_in_pieces(data: bytes, size: int) -> tuple[bytes, ChunkedChecker, int, Reject | None]:
    """Feed `data` in pieces of `size`: the body's own data, the checker, the bytes consumed, the Reject if any."""
    checker, body, consumed = ChunkedChecker(), b"", 0
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        if reject := checker.feed(piece):
            return body, checker, consumed, reject
        body += b"".join(piece[begin:end] for begin, end in checker.spans)
        consumed += checker.consumed
        if checker.complete:
            break
    return body, checker, consumed, None


@pytest.mark.parametrize(("data", "size", "extensions"), GOOD_HEADERS)
def test_chunk_header_is_read(data: bytes, size: int, extensions: bytes) -> None:
    """Hexadecimal digits, extensions, CRLF; what follows is not looked at, and every prefix waits."""
    expected = ChunkHeader(size, extensions, len(data))
    assert parse_chunk_header(data + b"\x00") == expected
    assert parse_chunk_header(bytearray(b"junk" + data), 4) == expected
    assert all(isinstance(parse_chunk_header(data[:end]), NeedMore) for end in range(len(data)))


@pytest.mark.parametrize("data", BAD_HEADERS)
def test_bad_chunk_header_is_refused(data: bytes) -> None:
    """What int(x, 16) would take, whitespace, bare line ends and long or malformed extensions are refused."""
    assert isinstance(parse_chunk_header(data), Reject)


def test_unending_chunk_header_is_refused() -> None:
    """A header is not waited for beyond its limit, whatever it holds."""
    reject = parse_chunk_header(b"5;" + b"a" * 300)
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE


def test_trailers_are_fields() -> None:
    """The section may be empty; its fields are read as a head's are, and every prefix waits."""
    assert parse_trailers(b"\r\nGET") == Trailers((), 2)
    data = b"x-checksum:  abc \r\ny:\r\n\r\n"
    assert parse_trailers(data + b"more") == Trailers(((b"x-checksum", b"abc"), (b"y", b"")), len(data))
    assert parse_trailers(b"junk" + data, 4) == Trailers(((b"x-checksum", b"abc"), (b"y", b"")), len(data))
    assert all(isinstance(parse_trailers(data[:end]), NeedMore) for end in range(len(data)))


@pytest.mark.parametrize("data", BAD_TRAILERS)
def test_bad_trailers_are_refused(data: bytes) -> None:
    """No trailer frames, routes or authorises, and the section has limits of its own."""
    assert isinstance(parse_trailers(data), Reject)


@pytest.mark.parametrize("data", BAD_BODIES)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_broken_body_is_refused_however_it_is_cut(data: bytes, size: int) -> None:
    """The checker says so at once, and never calls such a body complete."""
    _, checker, _, reject = read_in_pieces(data, size)
    assert isinstance(reject, Reject)
    assert not checker.complete
    assert checker.feed(b"0\r\n\r\n") == reject


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.sampled_from([b"", b";a=b", b';q="\\""']),
    st.sampled_from([b"", b"x: y\r\n", b"x: y\r\nz:\r\n"]),
    st.binary(max_size=10),
    st.integers(1, 50),
)
def test_valid_body_is_followed_however_it_is_cut(
    chunks: list[bytes], extension: bytes, trailers: bytes, after: bytes, size: int
) -> None:
    """The spans are exactly the chunks' data, and `consumed` ends where the message does."""
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    message = body + b"0" + extension + b"\r\n" + trailers + b"\r\n"
    found, checker, consumed, reject = read_in_pieces(message + after, size)
    assert reject is None
    assert (found, checker.complete, consumed) == (b"".join(chunks), True, len(message))
    assert len(checker.trailers) == trailers.count(b"\r\n")


def test_bytes_after_the_end_are_refused() -> None:
    """Once complete, the checker takes nothing more; nothing at all is no error."""
    checker = ChunkedChecker()
    assert checker.feed(b"0\r\n\r\n") is None
    assert checker.complete
    assert checker.feed(b"") is None
    assert isinstance(checker.feed(b"x"), Reject)


def test_extensions_of_a_body_are_bounded_together() -> None:
    """A stream of tiny chunks cannot carry an unbounded load of extensions."""
    checker = ChunkedChecker()
    chunk = b"1;" + b"a" * 199 + b"\r\nx\r\n"
    outcomes = [checker.feed(chunk) for _ in range(EXTENSIONS_LENGTH // 200 + 1)]
    assert outcomes[:-1] == [None] * (len(outcomes) - 1)
    assert isinstance(outcomes[-1], Reject)


@given(st.binary(max_size=80))
def test_any_bytes_are_total(data: bytes) -> None:
    """No bytes make the chunk parsers raise."""
    assert parse_chunk_header(data) is not None
    assert parse_trailers(data) is not None
    read_in_pieces(data, 7)

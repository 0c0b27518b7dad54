"""Looking fields up by name: what was remembered of a head says the same as going through its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.wire import framing
from egress.wire.head import ContentLength, Reject, RequestHead, ResponseHead, parse_request_head, parse_response_head

if TYPE_CHECKING:
    from egress.wire.head import Fields

NAMES = [b"Connection", b"connection", b"Upgrade", b"X-One", b"x-one", b"Trailer", b"Via"]
VALUES = [b"", b"a", b"close, Upgrade", b"websocket", b" padded \t", b"\t", b"\xff"]
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)


def request_with(fields: list[tuple[bytes, bytes]]) -> RequestHead:
    """A request with these fields and a Host."""
    lines = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert isinstance(head, RequestHead)
    return head


def response_with(fields: list[tuple[bytes, bytes]]) -> ResponseHead:
    """An answer with these fields."""
    lines = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
    head = parse_response_head(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")
    assert isinstance(head, ResponseHead)
    return head


def slowly(fields: Fields, name: bytes) -> tuple[bytes, ...]:
    """All values of a field, by going through all fields."""
    return tuple(value for key, value in fields if key.lower() == name)


@given(FIELDS)
def test_values_are_those_of_the_fields_whether_or_not_a_name_is_repeated(fields: list[tuple[bytes, bytes]]) -> None:
    """In order, by any spelling, without the whitespace around them."""
    for head in (request_with(fields), response_with(fields)):
        sent = [(name, value.strip(b" \t")) for name, value in fields]
        assert list(head.fields)[-len(sent) :] == sent or not sent
        for name in (b"host", b"connection", b"upgrade", b"x-one", b"trailer", b"via", b"absent"):
            assert head.values(name) == slowly(head.fields, name)
            members = b",".join(slowly(head.fields, name)).lower().split(b",")
            assert head.tokens(name) == tuple(member.strip(b" \t") for member in members if member.strip(b" \t"))


REPEATED = [
    (b"Host: a\r\n", b"Host: a\r\n"),
    (b"Content-Length: 5\r\n", b"content-length: 5\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: chunked\r\n"),
    (b"Expect: 100-continue\r\n", b"expect: 100-continue\r\n"),
]


@pytest.mark.parametrize("lines", REPEATED)
@pytest.mark.parametrize("between", [b"", b"X: y\r\n", b"x: y\r\nX: z\r\n"])
def test_a_decisive_field_that_is_repeated_is_refused(lines: tuple[bytes, bytes], between: bytes) -> None:
    """Whatever else is repeated too, and whatever stands between the two."""
    host = b"" if lines[0].startswith(b"Host") else b"Host: a\r\n"
    head = parse_request_head(b"POST / HTTP/1.1\r\n" + host + lines[0] + between + lines[1] + b"\r\n")
    assert isinstance(head, Reject)


def test_equal_heads_are_equal_and_hash_alike() -> None:
    """They are values, though nothing keeps them from being changed."""
    one, other = (request_with([(b"X-One", b"a")]) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != request_with([(b"X-One", b"b")])


def test_what_no_length_can_be_is_not_remembered() -> None:
    """A length that is refused for being long takes no memory, however long it is."""
    before = framing._length.cache_info().currsize
    for count in (17, 1000, 60_000):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * count + b"\r\n\r\n"
        assert isinstance(parse_response_head(head), Reject)
    assert framing._length.cache_info().currsize == before


@pytest.mark.parametrize(("digits", "length"), [(b"0", 0), (b"9007199254740991", 2**53 - 1)])
def test_a_length_is_read_alike_each_time(digits: bytes, length: int) -> None:
    """One that was read before, too; and one digit more is refused, however often it is tried."""
    for _ in range(3):
        head = parse_response_head(b"HTTP/1.1 200 OK\r\nContent-Length: " + digits + b"\r\n\r\n")
        assert isinstance(head, ResponseHead)
        assert head.framing == ContentLength(length)
        for bad in (b"0" + digits, b"+" + digits, b"9" * 17):
            assert isinstance(parse_response_head(b"HTTP/1.1 200 OK\r\nContent-Length: " + bad + b"\r\n\r\n"), Reject)

"""What an upstream proxy answers, and what it is sent: total, bounded, exact, and no destination adds to it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.wire.connect_reply import REPLY_LIMITS, Accepted, Declined, connect_head, destination, parse_connect_reply
from egress.wire.outcome import NeedMore, Reject
from egress.wire.socks_reply import (
    connect_message,
    greeting,
    parse_connected,
    parse_method,
    parse_signed_in,
    sign_in,
)

PARSERS = {
    "connect": parse_connect_reply,
    "method": lambda data: parse_method(data, user=False),
    "method with a user": lambda data: parse_method(data, user=True),
    "signed in": parse_signed_in,
    "connected": parse_connected,
}
# What some readers would take for a name or an address: each must be refused.
HOSTILE = (
    "a.test\r\nX: y",
    "a.test\n",
    "a.test HTTP/1.1",
    "a.test:22",
    "user@a.test",
    "a.test/",
    "a.test\0",
    "A.test",
    "b\u00fccher.test",
    "fe80::1%eth0",
    "fe80::1%\r\nX: y",
    "[::1]",
    "::1]:1",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0x7f000001",
    "1.2.3.4.5",
    "1.2.3.4 ",
    "",
    ".",
    "a..test",
    "a.test.",
    "*.test",
    "x" * 64,
    ".".join(["x" * 60] * 5),
)


@given(name=st.sampled_from(sorted(PARSERS)), data=st.binary(max_size=400))
def test_every_parser_is_total_and_reads_no_further_than_it_says(name: str, data: bytes) -> None:
    """Any bytes have an answer; what is accepted is within them, and is the same whatever follows."""
    found = PARSERS[name](data)
    assert isinstance(found, Accepted | Declined | NeedMore | Reject)
    if isinstance(found, Accepted):
        assert 0 < found.length <= len(data)
        assert PARSERS[name](data[: found.length]) == found
        for length in range(found.length):
            assert isinstance(PARSERS[name](data[:length]), NeedMore)


VALID = st.sampled_from(
    [
        ("connect", b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"),
        ("connect", b"HTTP/1.0 200\r\n\r\n"),
        ("connect", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("method", b"\x05\x00"),
        ("method with a user", b"\x05\x02"),
        ("signed in", b"\x01\x00"),
        ("connected", b"\x05\x00\x00\x01\x01\x02\x03\x04\x00\x50"),
        ("connected", b"\x05\x00\x00\x03\x03abc\x00\x50"),
        ("connected", b"\x05\x00\x00\x03\x00\x00\x50"),
        ("connected", b"\x05\x00\x00\x04" + bytes(18)),
    ]
)


@given(answer=VALID, more=st.binary(max_size=40))
def test_an_answer_is_read_to_its_exact_end(answer: tuple[str, bytes], more: bytes) -> None:
    """What follows belongs to the tunnel."""
    name, data = answer
    found = PARSERS[name](data + more)
    assert isinstance(found, Accepted)
    assert found.length == len(data)
    for length in range(len(data)):
        assert isinstance(PARSERS[name](data[:length]), NeedMore), length


def test_a_head_that_does_not_end_is_refused_at_its_limit() -> None:
    """Bounded: also where each field alone is fine."""
    endless = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * REPLY_LIMITS.bytes
    assert isinstance(parse_connect_reply(endless), Reject)
    many = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (REPLY_LIMITS.fields + 1)
    assert isinstance(parse_connect_reply(many), Reject)
    assert isinstance(parse_connect_reply(b"HTTP/1.1 200 " + b"x" * REPLY_LIMITS.line), Reject)


@pytest.mark.parametrize("status", [100, 101, 199, 300, 302, 400, 403, 404, 407, 500, 502, 503, 599])
def test_only_success_opens_a_tunnel(status: int) -> None:
    """And 407 is the last word: another address would fare no better, and accounts are locked for less."""
    found = parse_connect_reply(b"HTTP/1.1 %d canary\r\n\r\n" % status)
    assert isinstance(found, Declined)
    assert found.final is (status == 407)
    assert "canary" not in found.detail
    assert str(status) in found.detail


@pytest.mark.parametrize("code", range(1, 256))
def test_every_refusal_of_a_socks_proxy_is_one(code: int) -> None:
    """However short it is."""
    assert isinstance(parse_connected(bytes([5, code])), Declined)


@pytest.mark.parametrize("host", HOSTILE)
def test_no_destination_brings_anything_of_its_own(host: str) -> None:
    """No line, field, port, user or zone; nothing that the proxy would read as another address."""
    for make in (connect_head, connect_message):
        with pytest.raises(ValueError):  # noqa: PT011 - that it is refused is all
            make(host, 443)


@given(host=st.text(max_size=80), port=st.integers(-5, 70_000))
def test_what_is_sent_has_the_shape_of_one_request(host: str, port: int) -> None:
    """Two lines and an empty one, with the same authority twice; or exactly one SOCKS message."""
    try:
        head, message = connect_head(host, port), connect_message(host, port)
    except ValueError:
        return
    first, second, *rest = head.split(b"\r\n")
    assert rest == [b"", b""]
    _, authority, version = first.split(b" ")
    assert (second, version) == (b"Host: " + authority, b"HTTP/1.1")
    assert authority.endswith(b":%d" % port)
    plain = destination(host)
    lengths = {1: 4, 4: 16, 3: 1 + len(plain)}
    assert len(message) == 4 + lengths[message[3]] + 2
    assert message[-2:] == port.to_bytes(2, "big")


def test_addresses_are_sent_as_addresses() -> None:
    """Four or sixteen bytes in SOCKS, brackets in HTTP."""
    assert connect_message("203.0.113.7", 80) == b"\x05\x01\x00\x01\xcb\x00\x71\x07\x00\x50"
    assert connect_message("2001:db8::7", 443)[3:5] == b"\x04\x20"
    assert connect_message("a.test", 443) == b"\x05\x01\x00\x03\x06a.test\x01\xbb"
    assert connect_head("2001:DB8:0::7", 443).startswith(b"CONNECT [2001:db8::7]:443 HTTP/1.1\r\n")


def test_a_user_is_said_as_the_rfcs_have_it() -> None:
    """RFC 7617 and RFC 1929."""
    head = connect_head("a.test", 443, "me", "secret: word")
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"me:secret: word") + b"\r\n\r\n" in head
    assert sign_in("me", "word") == b"\x01\x02me\x04word"
    assert greeting(user=False) == b"\x05\x01\x00"
    assert greeting(user=True) == b"\x05\x02\x00\x02"


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("x", ""), ("x" * 256, "x"), ("x", "x" * 256)])
def test_what_does_not_fit_its_byte_is_not_sent(user: str, password: str) -> None:
    """Cut off, it would be somebody else's."""
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        sign_in(user, password)


def test_a_colon_in_a_user_is_refused() -> None:
    """The proxy would take the rest for the password."""
    with pytest.raises(ValueError, match="colon"):
        connect_head("a.test", 443, "me:you", "x")

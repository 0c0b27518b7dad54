"""What a client of SOCKS5 says, read strictly: each message by its own length, whatever follows, in whatever pieces."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.socks import greeting, password, request

from egress.wire import socks
from egress.wire.outcome import NeedMore, Reject
from egress.wire.socks import (
    Credentials,
    Greeting,
    SocksRequest,
    parse_credentials,
    parse_greeting,
    parse_socks_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

type Parser = Callable[[bytes], object]

V4, V6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
LONGEST = b"a" * 255
READ: list[tuple[str, Parser, bytes, object]] = [
    ("one method", parse_greeting, b"\5\1\0", Greeting(frozenset({0}), 3)),
    ("two methods", parse_greeting, b"\5\2\0\2", Greeting(frozenset({0, 2}), 4)),
    ("every method", parse_greeting, greeting(*range(255)), Greeting(frozenset(range(255)), 257)),
    ("name and token", parse_credentials, b"\1\1n\2to", Credentials(b"n", b"to", 6)),
    ("the longest of both", parse_credentials, password(LONGEST, LONGEST), Credentials(LONGEST, LONGEST, 513)),
    ("a name", parse_socks_request, request(b"a.test", 443), SocksRequest(1, b"a.test", 443, 13)),
    ("the longest name", parse_socks_request, request(LONGEST, 1), SocksRequest(1, LONGEST, 1, 262)),
    ("any bytes as a name", parse_socks_request, request(b"\0\xff", 1), SocksRequest(1, b"\0\xff", 1, 9)),
    ("IPv4", parse_socks_request, request(V4, 80), SocksRequest(1, V4, 80, 10)),
    ("IPv6", parse_socks_request, request(V6, 80), SocksRequest(1, V6, 80, 22)),
    ("port 0", parse_socks_request, request(V4, 0), SocksRequest(1, V4, 0, 10)),
    ("bind", parse_socks_request, request(V4, 80, 2), SocksRequest(2, V4, 80, 10)),
    ("a command that nobody knows", parse_socks_request, request(V4, 80, 9), SocksRequest(9, V4, 80, 10)),
    ("an address of no known type", parse_socks_request, b"\5\1\0\2", SocksRequest(1, None, 0, 4)),
]
REFUSED: list[tuple[str, Parser, bytes]] = [
    ("another version of the greeting", parse_greeting, b"\4\1\0"),
    ("no method", parse_greeting, b"\5\0"),
    ("another version of the credentials", parse_credentials, b"\5\1n\1t"),
    ("an empty name", parse_credentials, b"\1\0"),
    ("an empty token", parse_credentials, b"\1\1n\0"),
    ("another version of the request", parse_socks_request, b"\4\1\0\1"),
    ("something reserved", parse_socks_request, b"\5\1\1"),
    ("an empty host", parse_socks_request, b"\5\1\0\3\0"),
]


@pytest.mark.parametrize(("parse", "data", "expected"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_a_message_is_read_once_it_is_whole_and_what_follows_is_left(
    parse: Parser, data: bytes, expected: object
) -> None:
    """No prefix of it is one, and none is refused."""
    assert parse(data) == parse(data + b"\x16\x03") == expected
    assert {type(parse(data[:end])) for end in range(len(data))} == {NeedMore}
    assert len(data) <= socks.LARGEST_MESSAGE


@pytest.mark.parametrize(("parse", "data"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_breaks_the_grammar_is_refused_at_the_byte_that_does(parse: Parser, data: bytes) -> None:
    """And whatever follows changes nothing."""
    assert isinstance(parse(data), Reject)
    assert parse(data) == parse(data + b"\0" * 600)


PARSERS = st.sampled_from([parse_greeting, parse_credentials, parse_socks_request])
BYTES = st.binary(max_size=40) | st.tuples(st.sampled_from([b"\5\1\0", b"\5\2", b"\1"]), st.binary()).map(b"".join)


@given(PARSERS, BYTES, st.binary(max_size=4))
def test_any_bytes_keep_the_laws(parse: Parser, data: bytes, after: bytes) -> None:
    """Nothing raises; what was read or refused stays so; no message is longer than what is there, or the limit."""
    outcome = parse(data)
    assert isinstance(outcome, Greeting | Credentials | SocksRequest | NeedMore | Reject)
    if isinstance(outcome, Greeting | Credentials | SocksRequest):
        assert 0 < outcome.length <= min(len(data), socks.LARGEST_MESSAGE)
        assert parse(data[: outcome.length]) == outcome
    if not isinstance(outcome, NeedMore):
        assert parse(data + after) == outcome
    else:
        assert len(data) < socks.LARGEST_MESSAGE


HOSTS = st.binary(min_size=1, max_size=255) | st.ip_addresses()


@given(HOSTS, st.integers(0, 65_535), st.integers(0, 255), st.binary(max_size=20))
def test_a_request_is_read_as_it_was_written(
    host: bytes | IPv4Address | IPv6Address, port: int, command: int, after: bytes
) -> None:
    """Host, port and command come back, whatever follows."""
    data = request(host, port, command)
    assert parse_socks_request(data + after) == SocksRequest(command, host, port, len(data))


def test_answers_have_the_form_of_the_standard() -> None:
    """RFC 1928 section 6 and RFC 1929 section 2; no address of ours is told."""
    assert socks.method_answer(socks.Method.UNACCEPTABLE) == b"\5\xff"
    assert [socks.credentials_answer(known=known) for known in (True, False)] == [b"\1\0", b"\1\1"]
    assert socks.reply(socks.Reply.NOT_ALLOWED) == b"\5\2\0\1" + bytes(6)
    assert b"\0\x5b" + bytes(6) == socks.REFUSED4

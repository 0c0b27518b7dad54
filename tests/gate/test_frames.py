"""Frames of a WebSocket and messages of gRPC are covered in place: lengths stay true, and none waits for the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials import Secret
from egress.credentials.scrub import Scrubber
from egress.gate.frames import CoveredFrames, CoveredMessages
from egress.gate.inflate import UnreadableError

VALUE = "canary-0123456789"
SCRUBBER = Scrubber([Secret("key", VALUE)])


def frame(data: bytes, opcode: int = 0x81) -> bytes:
    """A server's frame."""
    if len(data) < 126:
        return bytes([opcode, len(data)]) + data
    if len(data) < 1 << 16:
        return bytes([opcode, 126]) + len(data).to_bytes(2) + data
    return bytes([opcode, 127]) + len(data).to_bytes(8) + data


@given(st.lists(st.integers(0, 400), max_size=6))
def test_a_value_is_covered_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    """Short, long and very long frames, one without data, one that ends as the value begins."""
    said = [b"<%s>" % VALUE.encode(), b"", b"x" * 200 + VALUE.encode(), b"canary-", VALUE.encode() * 4_000]
    whole = b"".join(map(frame, said))
    step = CoveredFrames(SCRUBBER)
    out, last = b"", 0
    for cut in [*sorted(cuts), len(whole)]:
        out += step.feed(memoryview(whole)[last:cut])
        last = cut
    assert out + step.end() == b"".join(frame(data.replace(VALUE.encode(), b"*" * len(VALUE))) for data in said)


def test_a_whole_frame_never_waits() -> None:
    """One that ends as a value begins goes on at once."""
    assert CoveredFrames(SCRUBBER).feed(frame(b"canary-")) == frame(b"canary-")


def test_a_masked_frame_of_a_server_breaks_off() -> None:
    """It could not be read, and no server may send one (RFC 6455, section 5.1)."""
    with pytest.raises(UnreadableError):
        CoveredFrames(SCRUBBER).feed(bytes([0x81, 0x85]) + b"maskhello")


def message(data: bytes, flags: int = 0) -> bytes:
    """A message of gRPC."""
    return bytes([flags]) + len(data).to_bytes(4) + data


@given(st.lists(st.integers(0, 400), max_size=6))
def test_a_value_in_a_message_is_covered_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    """Also in gRPC-Web's trailers, its last message."""
    said = [b"<%s>" % VALUE.encode(), b"", b"x" * 300 + VALUE.encode(), b"canary-", VALUE.encode() * 40]
    trailers = b"grpc-message: %s\r\n"
    whole = b"".join(map(message, said)) + message(trailers % VALUE.encode(), 0x80)
    step = CoveredMessages(SCRUBBER)
    out, last = b"", 0
    for cut in [*sorted(cuts), len(whole)]:
        out += step.feed(memoryview(whole)[last:cut])
        last = cut
    covered = b"*" * len(VALUE)
    expected = [message(data.replace(VALUE.encode(), covered)) for data in said]
    assert out + step.end() == b"".join((*expected, message(trailers % covered, 0x80)))


@pytest.mark.parametrize("begun", [1, 7, len(VALUE) - 1])
def test_what_waits_of_a_message_does_not_tell_whether_it_is_right(begun: int) -> None:
    """Of one that has ended nothing; of one that has not, as much of a right guess as of a wrong one."""
    right, wrong = VALUE[:begun].encode(), VALUE[: begun - 1].encode() + b"#"
    assert CoveredMessages(SCRUBBER).feed(message(right)) == message(right)
    for more in (1, 500):
        half = [message(b"line\n" + guess + bytes(more))[: 10 + begun] for guess in (right, wrong)]
        passed = [CoveredMessages(SCRUBBER).feed(each) for each in half]
        assert passed[0] == passed[1] == half[0][:10]


@pytest.mark.parametrize("shown", [1, 2, 3])
def test_a_value_that_begins_in_a_head_is_covered(shown: int) -> None:
    """A server that lies of its messages: the first characters stand where a length is declared."""
    out = CoveredMessages(SCRUBBER).feed(bytes(5 - shown) + VALUE.encode() + b"\0")
    assert out == bytes(5 - shown) + b"*" * len(VALUE) + b"\0"


UNREAD = [
    (message(b"x", 1), "a message is compressed"),
    (message(b"x", 0x81), "a message is compressed"),
    (b"<html>no", "it is no message of gRPC"),
    (message(b"ok") + b"{}   ", "a message is compressed"),
    (b"\2\0\0\0\0", "it is no message of gRPC"),
]


@pytest.mark.parametrize(("body", "why"), UNREAD)
def test_what_is_compressed_or_no_message_breaks_off(body: bytes, why: str) -> None:
    """It could not be read, and the outcome says why."""
    with pytest.raises(UnreadableError, match=why):
        CoveredMessages(SCRUBBER).feed(body)


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0\0", message(b"hello")[:-1], message(b"x") + b"\0"])
def test_a_body_that_ends_in_a_message_is_not_whole(body: bytes) -> None:
    """What is held of it goes nowhere."""
    step = CoveredMessages(SCRUBBER)
    step.feed(body)
    with pytest.raises(UnreadableError):
        step.end()

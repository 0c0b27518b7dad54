"""Frames of a WebSocket are covered in place: their lengths stay true, and none waits for the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials import Secret
from egress.credentials.scrub import Scrubber
from egress.gate.frames import CoveredFrames
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

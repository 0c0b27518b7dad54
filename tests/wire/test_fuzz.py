"""Laws that hold for any bytes: parsers never raise, never change their mind, and never accept what h11 does not.

Mutants and grammar are in tests/fuzz; here hypothesis looks for bytes of its own, and one test counts the cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.heads import REQUESTS, SMALL
from fuzz.hellos import ClientHellos
from fuzz.laws import check_laws
from fuzz.witnesses import check_request_by_h11
from hypothesis import given
from hypothesis import strategies as st

from egress.wire.client_hello import parse_client_hello
from egress.wire.head import HeadLimits, NeedMore, Reject, RequestHead, parse_request_head, parse_response_head

if TYPE_CHECKING:
    import pytest


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_keep_the_laws(data: bytes, cuts: list[int]) -> None:
    """Bytes without any structure do not raise either."""
    check_laws(data, cuts, lambda part, hint: parse_request_head(part, SMALL, resume=hint))
    check_laws(data, cuts, lambda part, hint: parse_response_head(part, resume=hint))
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
        check_request_by_h11(head, data)


@given(st.binary(max_size=60), st.integers(0, 80), st.integers(0, 9), st.booleans())
def test_wrong_hint_never_widens(data: bytes, scanned: int, fields: int, in_value: bool) -> None:  # noqa: FBT001
    """INVARIANT a hint never widens: whatever is given as `resume`, only what is accepted without it is accepted."""
    whole = parse_request_head(REQUESTS[2] + data)
    for request in (REQUESTS[2] + data, data + REQUESTS[0]):
        outcome = parse_request_head(request, resume=NeedMore(scanned, fields, in_value))
        assert not isinstance(outcome, RequestHead) or outcome == parse_request_head(request)
    assert isinstance(whole, RequestHead)


def test_hello_with_one_bit_changed_is_read_or_refused() -> None:
    """Every single bit of a real client's hello, the other way round."""
    seed = ClientHellos().seeds[0]
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

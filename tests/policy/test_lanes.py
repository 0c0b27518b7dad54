"""Which lane carries what, as a truth table, and what no forced lane can change."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy import Lane
from egress.policy.lanes import Opened, pick_lane

TLS, HTTP, RAW = Opened.TLS, Opened.HTTP, Opened.RAW
T, H, M = Lane.TUNNEL, Lane.HTTP, Lane.MITM

NONE: tuple[bytes, ...] = ()
HTTP1 = (b"http/1.1",)
BOTH = (b"h2", b"http/1.1")
BEHIND = (b"\x0a\x0a", b"http/1.1", b"h2")  # a GREASE value first (RFC 8701), as browsers send
GRPC = (b"h2",)
OTHER = (b"acme-tls/1",)

# (what opens it, TLS stays closed, ALPN, a rule asks for HTTP/2), (its lane; forced to: http, mitm, tunnel)
CASES: list[tuple[tuple[Opened, bool, tuple[bytes, ...], bool], tuple[Lane, ...]]] = [
    ((RAW, False, NONE, False), (T, T, M, T)),
    ((RAW, True, NONE, False), (T, T, M, T)),
    ((RAW, False, NONE, True), (T, T, M, T)),
    ((RAW, True, NONE, True), (T, T, M, T)),
    ((HTTP, False, NONE, False), (H, H, M, H)),
    ((HTTP, True, NONE, False), (H, H, M, H)),
    ((HTTP, False, NONE, True), (H, H, M, H)),
    ((HTTP, True, NONE, True), (H, H, M, H)),
    ((TLS, True, NONE, False), (T, T, M, T)),
    ((TLS, True, BOTH, False), (T, T, M, T)),
    ((TLS, True, GRPC, False), (T, T, M, T)),
    ((TLS, True, BOTH, True), (T, T, M, T)),
    ((TLS, False, NONE, False), (H, H, M, H)),
    ((TLS, False, HTTP1, False), (H, H, M, H)),
    ((TLS, False, BOTH, False), (H, H, M, H)),
    ((TLS, False, BEHIND, False), (H, H, M, H)),
    ((TLS, False, GRPC, False), (M, M, M, M)),
    ((TLS, False, OTHER, False), (M, M, M, M)),
    ((TLS, False, NONE, True), (H, H, M, H)),
    ((TLS, False, HTTP1, True), (H, H, M, H)),
    ((TLS, False, BOTH, True), (M, H, M, M)),
    ((TLS, False, BEHIND, True), (M, H, M, M)),
    ((TLS, False, GRPC, True), (M, M, M, M)),
    ((TLS, False, OTHER, True), (M, M, M, M)),
]


@pytest.mark.parametrize(("case", "lanes"), CASES)
def test_lane_truth_table(case: tuple[Opened, bool, tuple[bytes, ...], bool], lanes: tuple[Lane, ...]) -> None:
    """The least lane that serves every rule; a forced one only where it can carry the connection."""
    opened, tunnel, alpn, http2 = case
    forced = (None, Lane.HTTP, Lane.MITM, Lane.TUNNEL)
    assert tuple(pick_lane(opened, tunnel=tunnel, alpn=alpn, http2=http2, forced=lane) for lane in forced) == lanes


def test_the_truth_table_has_every_way_to_open() -> None:
    """Each opening, closed and open, with and without a rule that asks for HTTP/2."""
    seen = {(opened, tunnel, http2) for (opened, tunnel, _, http2), _ in CASES}
    assert seen == set(itertools.product(Opened, (False, True), (False, True)))


alpns = st.lists(st.sampled_from([b"h2", b"http/1.1", b"http/1.0", b"h3", b""]) | st.binary(max_size=8), max_size=4)


@given(
    st.sampled_from(Opened),
    st.booleans(),
    alpns.map(tuple),
    st.booleans(),
    st.none() | st.sampled_from(Lane),
)
def test_no_lane_enforces_less_than_the_rule_needs(
    opened: Opened,
    tunnel: bool,  # noqa: FBT001 -- drawn
    alpn: tuple[bytes, ...],
    http2: bool,  # noqa: FBT001 -- drawn
    forced: Lane | None,
) -> None:
    """What is to be looked into is never tunnelled, and who cannot speak HTTP/1.1 never gets the lane of it."""
    lane = pick_lane(opened, tunnel=tunnel, alpn=alpn, http2=http2, forced=forced)
    if lane is Lane.TUNNEL:
        assert opened is RAW or (opened is TLS and tunnel)
    if lane is Lane.HTTP and opened is TLS:
        assert not tunnel
        assert not alpn or b"http/1.1" in alpn
    if lane is Lane.HTTP:
        assert opened is not RAW

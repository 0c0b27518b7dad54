"""Coded bodies are undone as they stream, bounded, and never half."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.gate.inflate import RATIO, SPARE, Inflate, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable


def raw(data: bytes) -> bytes:
    """Deflate without a wrapper."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def undone(coding: bytes, *parts: bytes, out: list[bytes] | None = None) -> None:
    """Undo the whole of it; `out` gets what came of that."""
    step = Inflate(coding)
    for part in parts:
        done = step.feed(part)
        if out is not None:
            out.append(done)
    step.end()


CODED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "members": (b"x-gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(b"") + gzip.compress(data[7:])),
    "deflate": (b"deflate", zlib.compress),
    "raw": (b"deflate", raw),
}


@given(st.sampled_from(sorted(CODED)), st.binary(max_size=600), st.lists(st.integers(0, 700), max_size=5))
def test_a_coded_body_is_undone_however_it_is_cut(kind: str, data: bytes, cuts: list[int]) -> None:
    """What comes out is what went in."""
    coding, encode = CODED[kind]
    whole = encode(data)
    step = Inflate(coding)
    out, last = b"", 0
    for cut in [*sorted(cuts), len(whole)]:
        out += step.feed(whole[last:cut])
        last = cut
    assert out + step.end() == data


@pytest.mark.parametrize("kind", sorted(CODED))
def test_a_body_that_is_cut_off_has_no_end(kind: str) -> None:
    """However much of it was decoded."""
    coding, encode = CODED[kind]
    with pytest.raises(UnreadableError):
        undone(coding, encode(b"hello, hello")[:-1])


@pytest.mark.parametrize("kind", sorted(CODED))
def test_what_follows_the_end_breaks_off(kind: str) -> None:
    """It could be read as something else."""
    coding, encode = CODED[kind]
    with pytest.raises(UnreadableError):
        undone(coding, encode(b"hello") + b"trailing bytes", b"more")


def test_no_body_is_a_body() -> None:
    """A coding of nothing at all."""
    step = Inflate(b"gzip")
    assert step.feed(b"") + step.end() == b""


def test_a_body_that_grows_too_much_breaks_off_before_it_has_grown() -> None:
    """INVARIANT bounded: what is held is in proportion to what came."""
    coded = gzip.compress(bytes(200 << 20))
    out: list[bytes] = []
    with pytest.raises(UnreadableError):
        undone(b"gzip", *(coded[start : start + 4_096] for start in range(0, len(coded), 4_096)), out=out)
    assert sum(map(len, out)) <= SPARE + RATIO * len(coded)


def test_ordinary_text_passes_whole() -> None:
    """A log, in all its monotony."""
    text = b"".join(b"2026-01-01 12:%02d:%02d GET /%d 200\n" % (n % 60, n % 47, n * n) for n in range(200_000))
    step = Inflate(b"gzip")
    assert step.feed(gzip.compress(text)) + step.end() == text

"""Bodies as they come: however they are cut, the same bytes, the same end, and nothing of the next message."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.proxy.bodies import BodyError, IncomingBody, chunk, last_chunk
from egress.proxy.endpoint import Endpoint
from egress.wire.head import Chunked, ContentLength, UntilClose

if TYPE_CHECKING:
    from egress.wire.head import Framing

NEXT = b"HTTP/1.1 200 next"


async def read(framing: Framing | UntilClose, rest: bytes, pieces: list[bytes], *, end: bool) -> tuple[bytes, bytes]:
    """Feed `pieces` one by one; the whole body, and what was read beyond it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - the method takes it so
        endpoint = Endpoint(asyncio.get_running_loop(), ours)
        body = IncomingBody(endpoint, framing, rest, memoryview(bytearray(64)))
        got = bytes(body.here())
        sent = 0
        while not body.done:
            if sent < len(pieces):
                theirs.sendall(pieces[sent])
                sent += 1
            elif end:
                theirs.shutdown(socket.SHUT_WR)
            got += bytes(await body.next())
        endpoint.pause()
        return got, body.rest


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Data in pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


PLACES = st.lists(st.integers(0, 500), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=90), max_size=4), PLACES, st.integers(0, 40))
def test_a_chunked_body_is_its_data_however_it_is_cut(parts: list[bytes], places: list[int], early: int) -> None:
    """The framing goes, the data stays, and what follows is not touched."""
    wire = b"".join([chunk(part) for part in parts]) + last_chunk()
    rest, later = wire[:early], wire[early:]
    got, beyond = asyncio.run(read(Chunked(), rest, cut(later, places), end=False))
    assert got == b"".join(parts)
    assert beyond == b""


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), PLACES, st.integers(0, 320))
def test_a_counted_body_ends_where_it_says(data: bytes, places: list[int], early: int) -> None:
    """Bytes behind it that came with it are left for the next message."""
    wire = data + NEXT
    rest, later = wire[:early], wire[early:]
    got, beyond = asyncio.run(read(ContentLength(len(data)), rest, cut(later, places), end=False))
    assert got == data
    assert NEXT.startswith(beyond)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), PLACES)
def test_a_body_until_the_close_is_everything(data: bytes, places: list[int]) -> None:
    """Its end is the connection's."""
    got, beyond = asyncio.run(read(UntilClose(), b"", cut(data, places), end=True))
    assert (got, beyond) == (data, b"")


@pytest.mark.parametrize(
    ("framing", "wire", "early"),
    [
        (ContentLength(10), b"four", True),
        (Chunked(), b"5\r\nab", True),
        (Chunked(), b"5\r\nabcde\r\n", True),
        (Chunked(), b"5\r\nabcdeXX", False),
        (Chunked(), b"zz\r\n", False),
        (Chunked(), b"-1\r\n", False),
    ],
)
def test_a_body_that_does_not_keep_its_framing_is_told(framing: Framing, wire: bytes, *, early: bool) -> None:
    """An end before the end, and bytes that no framing has, are told apart."""
    with pytest.raises(BodyError) as caught:
        asyncio.run(read(framing, b"", [wire], end=True))
    assert caught.value.early is early


def test_an_empty_chunk_is_never_written() -> None:
    """It would end the body, and what follows would be another message."""
    assert chunk(b"") == b""
    assert chunk(b"abc") == b"3\r\nabc\r\n"
    assert last_chunk(b"X: y\r\n") == b"0\r\nX: y\r\n\r\n"

"""Fuzz target for chunked bodies: one end, one body, however they come; and what is written anew reads the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import httptools
from fuzz.mutation import cuts_of, mutate

from egress.wire.chunked import ChunkedChecker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SEEDS = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b"1;a=b\r\nx\r\nA\r\n0123456789\r\n0\r\nX-T: y\r\n\r\n",
    b"0\r\n\r\nGET",
    b'3;q="a\\"b";c\r\nabc\r\n000\r\n\r\n',
)
PIECES = (
    b"\r\n", b"\r", b"\n", b";", b"=", b'"', b"\\", b" ", b"\t", b"0", b"1", b"5", b"a", b"F", b"g", b"-", b"+", b"0x",
    b"\x00", b"\xff", b"0\r\n", b"0\r\n\r\n", b";a=b", b";" + b"x" * 270, b"00000000", b"FFFFFFFFFFFFFFFF",
    b"X-T: y\r\n", b"Content-Length: 5\r\n", b"Host: b\r\n", b"GET / HTTP/1.1\r\n",
)  # fmt: skip
_SIZES = (b"0", b"1", b"5", b"05", b"5;a", b"5;a=b", b'5;a="b"', b"5 ", b"5;", b"a", b"A", b"g", b"", b"10")
_ENDS = (b"\r\n",) * 10 + (b"\n", b"\r", b"", b"\r\r\n")


@dataclass(frozen=True, slots=True)
class Read:
    """What a checker made of the bytes: why it refused, whether it was complete, the body, how much it consumed."""

    refused: str
    complete: bool
    body: bytes
    consumed: int
    trailers: tuple[tuple[bytes, bytes], ...]


def read(data: bytes, cuts: Sequence[int]) -> Read:
    """Feed a checker, cut at these places; it is not fed beyond the end."""
    checker = ChunkedChecker()
    body, consumed, start, refused = b"", 0, 0, ""
    for end in [*cuts, len(data)]:
        piece = data[start:end]
        start = end
        if checker.complete or refused:
            break
        reject = checker.feed(piece)
        refused = "" if reject is None else reject.detail
        body += b"".join(piece[begin:stop] for begin, stop in checker.spans)
        consumed += checker.consumed
    return Read(refused, checker.complete, body, consumed, checker.trailers)


@dataclass(frozen=True, slots=True)
class ChunkedBodies:
    """Bodies in chunks, whole and cut."""

    name: str = "chunked-bodies"
    seeds: tuple[bytes, ...] = SEEDS

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant, or chunks put together by grammar."""
        if chance.random() < 0.6:
            return mutate(chance, pool, PIECES)
        chunks = (
            chance.choice(_SIZES) + chance.choice(_ENDS) + b"hello0123456789ab"[: chance.choice((0, 1, 5, 10, 16))]
            + chance.choice(_ENDS)
            for _ in range(chance.randrange(4))
        )  # fmt: skip
        return b"".join(chunks) + chance.choice((b"0\r\n\r\n", b"0\r\n", b"0\r\nX: y\r\n\r\n", b"0;a\r\n\r\n", b""))

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        whole = read(data, ())
        every = range(1, len(data)) if len(data) < 80 else cuts_of(chance, data, 9)
        for cuts in (cuts_of(chance, data, 3), every):
            pieces = read(data, cuts)
            told = (bool(pieces.refused), pieces.complete)
            assert told == (bool(whole.refused), whole.complete), "in pieces it is read otherwise"
            if whole.complete:
                assert pieces == whole
            else:
                assert whole.body.startswith(pieces.body) or pieces.body.startswith(whole.body)
        for cut in cuts_of(chance, data, 2):
            prefix = read(data[:cut], ())
            assert not prefix.refused or whole.refused, "a prefix is refused and the whole is not"
            assert not prefix.complete or prefix == whole, "a prefix is another body than the whole"
        if whole.complete:
            _check_complete(whole, data)
        size, trailers = min(len(whole.body), 3), min(len(whole.trailers), 3)
        return f"body: {whole.refused} {whole.complete} {size} {trailers} {b';' in data}"


def _check_complete(whole: Read, data: bytes) -> None:
    assert _by_h11(data) == (whole.body, data[whole.consumed :])
    seen = _by_llhttp(data[: whole.consumed])
    assert seen is None or seen == whole.body, "llhttp reads another body"
    again = b"%x\r\n%b\r\n" % (len(whole.body), whole.body) if whole.body else b""
    again += b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in whole.trailers) + b"\r\n"
    told = read(again, ())
    assert (told.complete, told.body, told.trailers) == (True, whole.body, whole.trailers)


def _by_h11(data: bytes) -> tuple[bytes, bytes]:
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(_HEAD + data)
    assert isinstance(server.next_event(), h11.Request)
    body = b""
    while isinstance(event := server.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return body, server.trailing_data[0]


class _Body:
    def __init__(self) -> None:
        self.body = b""
        self.complete = 0

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


def _by_llhttp(data: bytes) -> bytes | None:
    """The body that llhttp reads, None where it refuses."""
    notes = _Body()
    parser = httptools.HttpRequestParser(notes)
    try:
        parser.feed_data(_HEAD)
        for at in range(len(data)):
            assert not notes.complete, "llhttp sees the body end before we do"
            parser.feed_data(data[at : at + 1])
    except httptools.HttpParserError:
        return None
    assert notes.complete == 1, "llhttp does not see the body end where we do"
    return notes.body

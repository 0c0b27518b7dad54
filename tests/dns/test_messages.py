"""Bytes of strangers: whatever they are, they crash nothing, are never passed on, and what comes back is bounded."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resolving import Bench, query

from egress.proxy.dns import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from nameserver import NameServer

RULES = "rules: [{allow: api.example.com}]"
LARGEST_REFUSAL = 600


def header(flags: int, *counts: int) -> bytes:
    """A message's first twelve bytes."""
    return struct.pack("!6H", 7, flags, *counts)


def changed(data: bytes, at: int, value: int) -> bytes:
    """A message with another byte somewhere."""
    return data[:at] + bytes([value]) + data[at + 1 :]


GOOD = query("api.example.com", edns=False)
QUESTION = GOOD[12:]
OPT = query("api.example.com")[len(GOOD) :]
ANSWERS_TO_NOTHING = [b"", b"x" * 11, changed(GOOD, 2, 0x81), changed(GOOD, 2, 0xFF), b"\xff" * 512]
# what is sent -> the code of the answer
MALFORMED = [
    (header(0, 0, 0, 0, 0), "FORMERR"),
    (header(0, 2, 0, 0, 0) + QUESTION + QUESTION, "FORMERR"),
    (header(0, 1, 1, 0, 0) + QUESTION, "FORMERR"),
    (header(0, 1, 0, 1, 0) + QUESTION, "FORMERR"),
    (header(0, 1, 0, 0, 2) + QUESTION + OPT + OPT, "FORMERR"),
    (header(0, 1, 0, 0, 1) + QUESTION + QUESTION + b"\0\0\0\0\0\0", "FORMERR"),
    (header(0, 1, 0, 0, 0), "FORMERR"),
    (GOOD[:-1], "FORMERR"),
    (GOOD + b"\0", "FORMERR"),
    (GOOD + b"\0" * 2_000, "FORMERR"),
    # names that point at themselves, forwards, and in a circle
    (header(0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", "FORMERR"),
    (header(0, 1, 0, 0, 0) + b"\xc0\x20\0\1\0\1", "FORMERR"),
    (header(0, 1, 0, 0, 0) + b"\1a\xc0\x0c\0\1\0\1", "FORMERR"),
    (header(0, 1, 0, 0, 0) + b"\x3f" + b"a" * 63 + (b"\x3f" + b"b" * 63) * 4 + b"\0\0\1\0\1", "FORMERR"),
    (header(dns.opcode.UPDATE << 11, 1, 0, 0, 0) + QUESTION, "NOTIMP"),
    (header(dns.opcode.NOTIFY << 11, 1, 0, 0, 0) + QUESTION, "NOTIMP"),
    (header(dns.opcode.STATUS << 11, 1, 0, 0, 0) + QUESTION, "NOTIMP"),
]


@pytest.mark.parametrize("data", ANSWERS_TO_NOTHING)
def test_what_is_no_query_gets_no_answer(bench: Callable[..., Bench], data: bytes) -> None:
    """Answers above all: two that answer each other would never end."""

    async def play(own: Bench) -> None:
        assert await own.send(data) is None
        assert own.ledger.decisions == []

    bench(RULES).run(play)


@pytest.mark.parametrize(("data", "told"), MALFORMED)
def test_malformed_queries_are_told_so(
    bench: Callable[..., Bench], upstream: NameServer, data: bytes, told: str
) -> None:
    """By a header alone, with a row; nothing leaves."""

    async def play(own: Bench) -> None:
        answer = await own.send(data)
        assert answer is not None
        assert len(answer) == 12
        read = dns.message.from_wire(answer)
        assert (dns.rcode.to_text(read.rcode()), read.id) == (told, struct.unpack_from("!H", data)[0])
        assert [row.reason for row in own.ledger.decisions] == ["request-malformed"]

    bench(RULES).run(play)
    assert upstream.asked == []


def test_other_classes_and_versions_are_refused(bench: Callable[..., Bench]) -> None:
    """CHAOS asks servers about themselves; EDNS has one version."""

    async def play(own: Bench) -> None:
        for name, kind in (("version.bind", "TXT"), ("api.example.com", "A")):
            asked = dns.message.make_query(name, kind, rdclass="CH").to_wire()
            answer = await own.send(asked)
            assert answer is not None
            assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED
        asked = dns.message.make_query("api.example.com", "A", use_edns=1).to_wire()
        answer = await own.send(asked)
        assert answer is not None
        assert dns.message.from_wire(answer).rcode() == dns.rcode.BADVERS

    bench(RULES).run(play)


def test_nothing_else_of_a_query_comes_back(bench: Callable[..., Bench], upstream: NameServer) -> None:
    """No option, no flag but the wish for recursion: what a client adds reaches nobody."""
    options = [dns.edns.ECSOption("192.0.2.0", 24), dns.edns.GenericOption(65_001, b"a message")]

    async def play(own: Bench) -> None:
        asked = dns.message.make_query("api.example.com", "A", want_dnssec=True, options=options)
        asked.flags |= dns.flags.CD | dns.flags.AD
        answer = await own.send(asked.to_wire())
        assert answer is not None
        read = dns.message.from_wire(answer)
        assert read.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
        assert (read.options, read.ednsflags, read.id) == ((), 0, asked.id)

    bench(RULES).run(play)
    assert [name for name, _, _ in upstream.asked] == ["api.example.com."] * 2


names = st.lists(st.binary(min_size=1, max_size=63), max_size=4)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Messages that look like queries, most of them for names of strange bytes, some damaged."""
    labels = draw(names)
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    kind, of = draw(st.integers(0, 65_535)), draw(st.sampled_from([1, 1, 1, 3, 255]))
    data = header(draw(st.sampled_from([0, 0x100, 0x120])), 1, 0, 0, 0) + name + struct.pack("!2H", kind, of)
    if draw(st.booleans()) and data:
        data = changed(data, draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 255)))
    return data


async def answers(datagrams: list[bytes], own: Bench) -> list[bytes | None]:
    """What comes back for each."""
    own.open()
    try:
        return [await own.send(data) for data in datagrams]
    finally:
        own.answering.ledger.close()
        own.book.close()


@settings(max_examples=120)
@given(st.lists(st.binary(max_size=600) | queries(), min_size=1, max_size=6))
def test_arbitrary_bytes_are_harmless(datagrams: list[bytes]) -> None:
    """They never crash, never leave, and what comes back is small and an answer."""

    class Nobody:
        port = 9

    with tempfile.TemporaryDirectory() as folder:
        own = Bench(Path(folder), Nobody(), "rules: [{allow: api.example.com}]", {})  # type: ignore[arg-type]
        own.clock.now += 1
        for data, answer in zip(datagrams, asyncio.run(answers(datagrams, own)), strict=True):
            asked = message.read(data)
            assert (answer is None) == (asked is None)
            if answer is None:
                continue
            assert len(answer) <= LARGEST_REFUSAL
            read = dns.message.from_wire(answer)
            assert read.flags & dns.flags.QR
            assert read.answer == []
            assert answer[:2] == data[:2]
        assert all(row.verdict == "deny" for row in own.ledger.decisions)


@given(st.binary(max_size=2_000) | queries())
def test_reading_never_raises(data: bytes) -> None:
    """A question, a malformed one, or nothing."""
    asked = message.read(data)
    assert asked is None or isinstance(asked, (message.Asked, message.Malformed))
    if isinstance(asked, message.Asked):
        assert len(message.write(asked, dns.rcode.REFUSED, stream=False)) <= asked.size
        assert asked.kind_text

"""Fuzz target for what sandboxes ask the resolver: DNS messages, read, refused or answered, and never followed.

A second reader of the header and of names without pointers (RFC 1035, section 4.1) is the witness of what is asked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
from fuzz.mutation import mutate

from egress.policy import Host, Refusal, parse_host
from egress.proxy.dns import message
from egress.proxy.dns.message import DATAGRAM, Asked, Extended, Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_HEADER = struct.Struct("!6H")
PIECES = (
    b"\x00", b"\x01", b"\xff", b"\xc0\x0c", b"\xc0\x00", b"\x3f", b"\x04test\x00", b"\x00\x00\x01\x00\x01",
    b"\x00\x1c\x00\x01",
    b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00", b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01", b"\x81\x80",
    b"\x28\x00", b"\x00\xfb", b"\x00\xff", b"\x00\x03", b"\x00\xfa\x00\xff",
)  # fmt: skip


def _seeds() -> tuple[bytes, ...]:
    asked = [("a.test", "A"), ("b.a.test", "AAAA"), ("a.test", "TXT"), ("a.test", "SVCB")]
    asked.append(("1.2.0.192.in-addr.arpa", "PTR"))
    plain = [_query(name, kind, edns) for name, kind in asked for edns in (-1, 0)]
    return (*plain, _query(f"{'x' * 63}.{'y' * 63}.test", "A", 0), _query("a.test", "A", 1))


def _query(name: str, kind: str, edns: int) -> bytes:
    # Always of one id, so that a run can be repeated.
    return dns.message.make_query(name, kind, use_edns=edns, payload=4096, id=7).to_wire()


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions of clients, mutated."""

    name: str = "dns-questions"
    seeds: tuple[bytes, ...] = field(default_factory=_seeds)

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant, mostly with counts that let its question be looked at."""
        data = mutate(chance, pool, PIECES)
        if chance.random() < 0.5 and len(data) > _HEADER.size:
            number, flags, *_, additional = _HEADER.unpack_from(data)
            data = _HEADER.pack(number, flags & 0x87FF, 1, 0, 0, additional & 1) + data[_HEADER.size :]
        return data

    def check(self, data: bytes, _chance: Random) -> str:
        """Hold one input to everything."""
        found = message.read(data)
        if found is None:
            assert len(data) < _HEADER.size or data[2] & 0x80, "a question gets no answer"
            return f"unanswered: {len(data) < _HEADER.size}"
        assert not data[2] & 0x80, "an answer is answered"
        if isinstance(found, Malformed):
            _check_header(data, found.answer)
            assert len(found.answer) == _HEADER.size, "of what is malformed more than its id is repeated"
            assert found.detail.isprintable()
            return f"refused: {found.answer[3] & 0xF} {found.detail}"
        return self._asked(data, found)

    def _asked(self, data: bytes, asked: Asked) -> str:
        labels = named(data)
        assert labels is None or tuple(label for label in asked.name.labels if label) == labels, "another name is read"
        assert 512 <= asked.size <= DATAGRAM, "an answer may be larger than a datagram"
        for stream in (False, True):
            for code in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR):
                answer = message.write(asked, code, (), Extended(15, "host-not-allowed; decision x"), stream=stream)
                _check_header(data, answer)
                assert stream or len(answer) <= asked.size, "an answer does not fit"
                told = dns.message.from_wire(answer)
                assert (told.question, told.rcode()) == (asked.query.question, code), "another question is answered"
        host = parse_host(asked.name.to_text(omit_final_dot=True))
        kind = "address" if isinstance(host, Host) and host.address else "none" if isinstance(host, Refusal) else "host"
        known = asked.kind_text if asked.kind in {1, 12, 16, 28, 64} else "other"
        return f"question: {kind} {known} {asked.of_internet} {asked.extended} {message.bad_version(asked)}"


def _check_header(data: bytes, answer: bytes) -> None:
    assert answer[:2] == data[:2], "the answer is another's"
    assert answer[2] & 0x80, "the answer is a question"


def named(data: bytes) -> tuple[bytes, ...] | None:
    """The labels of the question's name; None where it points elsewhere."""
    at, labels = _HEADER.size, []
    while data[at]:
        if data[at] > 63:
            return None
        labels.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return tuple(labels)

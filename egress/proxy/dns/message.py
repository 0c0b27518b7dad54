"""DNS messages (RFC 1035, 6891, 8914): bytes to one question, an answer to bytes.

Nothing of a query but its question, its id and the size that its sender takes goes into an answer.

1. what is no query gets no answer at all: an answer to an answer would go round in a circle
2. a query has exactly one question, no other records but OPT, and fits into one datagram; all else is malformed
3. an answer is no longer than its asker takes, nor than a datagram that is carried whole everywhere; beyond, it says
   that it is cut (TC), and the asker comes back over TCP
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.gate.resolver import RecordData

# No fragment on any path (dnsflagday.net, 2020).
DATAGRAM: Final = 1_232
_SMALLEST: Final = 512
_STREAM: Final = 65_535
_HEADER: Final = struct.Struct("!6H")
_RESPONSE: Final = 0x8000
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_TEXT_AT_MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Malformed:
    """A query that is none: the answer to give, which repeats nothing of it but its id. `detail` for people."""

    answer: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with one question. `name` is as it was written; `size`: bytes of a datagram that its sender takes."""

    query: dns.message.Message
    name: dns.name.Name
    kind: int
    of_internet: bool
    size: int
    extended: bool

    @property
    def kind_text(self) -> str:
        """The type as people write it."""
        return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.kind))


@dataclass(frozen=True, slots=True)
class Extended:
    """An extended DNS error (RFC 8914)."""

    code: int
    text: str = ""


def read(data: bytes) -> Asked | Malformed | None:  # noqa: PLR0911 -- one return a fault
    """The question in `data`; None for what must not be answered. Never raises."""
    if len(data) < _HEADER.size:
        return None
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    opcode = flags >> 11 & 0xF
    if opcode != dns.opcode.QUERY:
        return _malformed(number, flags, dns.rcode.NOTIMP, "only questions are answered")
    if questions != 1 or answers or authorities or additional > 1 or len(data) > DATAGRAM:
        return _malformed(number, flags, dns.rcode.FORMERR, "not one question alone")
    try:
        query = dns.message.from_wire(data)
        (question,) = query.question
    except Exception as error:  # noqa: BLE001 - whatever it was, it is no message
        return _malformed(number, flags, dns.rcode.FORMERR, f"not a message ({type(error).__name__})")
    if query.edns < 0 and additional:
        return _malformed(number, flags, dns.rcode.FORMERR, "a record besides the question")
    size = min(max(query.payload, _SMALLEST), DATAGRAM) if query.edns >= 0 else _SMALLEST
    of_internet = question.rdclass == dns.rdataclass.IN
    return Asked(query, question.name, int(question.rdtype), of_internet, size, extended=query.edns >= 0)


def bad_version(asked: Asked) -> bool:
    """Whether the query speaks a version of EDNS that nobody knows (RFC 6891, section 6.1.3)."""
    return asked.query.edns > 0


def write(
    asked: Asked,
    rcode: int,
    records: Iterable[dns.rrset.RRset] = (),
    extended: Extended | None = None,
    *,
    stream: bool,
) -> bytes:
    """An answer. `stream`: over TCP, where a long one is no trouble."""
    most = _STREAM if stream else asked.size
    answer = _answer(asked, rcode, extended)
    answer.answer.extend(records)
    try:
        return answer.to_wire(max_size=most)
    except dns.exception.TooBig:
        cut = _answer(asked, rcode, None)
        cut.flags |= dns.flags.TC
        return cut.to_wire(max_size=most)


def rrsets(records: Iterable[RecordData], ttl: int, asked: Asked) -> list[dns.rrset.RRset]:
    """Records as they came over the wire, as sets in an answer; of the name that was asked for, spelt as it was."""
    found: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
    for owner, kind, data in records:
        name = dns.name.from_text(owner)
        name = asked.name if name == asked.name else name
        kind_of = dns.rdatatype.RdataType.make(kind)
        rrset = found.setdefault((name, kind), dns.rrset.RRset(name, dns.rdataclass.IN, kind_of))
        rrset.add(dns.rdata.from_wire(dns.rdataclass.IN, kind_of, data, 0, len(data)), ttl)
    return list(found.values())


def one(asked: Asked, kind: str, ttl: int, *texts: str) -> dns.rrset.RRset:
    """A set of records of the name that was asked for."""
    return dns.rrset.from_text(asked.name, ttl, dns.rdataclass.IN, kind, *texts)


def _answer(asked: Asked, rcode: int, extended: Extended | None) -> dns.message.Message:
    answer = dns.message.Message(id=asked.query.id)
    answer.flags = dns.flags.QR | dns.flags.RA | (asked.query.flags & dns.flags.RD)
    answer.question = list(asked.query.question)
    if asked.extended:
        options: list[dns.edns.Option] = []
        if extended is not None:
            code = dns.edns.EDECode.make(extended.code)
            options.append(dns.edns.EDEOption(code, extended.text[:_TEXT_AT_MOST] or None))
        answer.use_edns(0, payload=DATAGRAM, options=options)
    answer.set_rcode(dns.rcode.Rcode.make(rcode))
    return answer


def _malformed(number: int, flags: int, rcode: int, detail: str) -> Malformed:
    kept = flags & (0xF << 11 | _RECURSION_DESIRED)
    return Malformed(_HEADER.pack(number, _RESPONSE | kept | _RECURSION_AVAILABLE | rcode, 0, 0, 0, 0), detail)

"""What an upstream sends back of the secrets that a request carried does not reach the sandbox: once, for every lane.

1. the request asks for no coding and no part of a body (`outbound`), so that an answer can be read
2. an answer in gzip or deflate is decoded all the same, and goes on decoded, without the fields that are no longer true
3. any other coding, a part that nobody asked for, or text in a charset in which ASCII is written otherwise, is refused
   before a byte of it went on; or passes as it is, where the rule says `scrub: pass`, or where it says nothing and the
   type is a binary one: then the values are looked for all the same, since what the head says may be a lie
4. what can be read is scrubbed: reason phrase, names and values of fields, trailers, body; messages of gRPC each on its
   own, and compressed ones are as bodies in another coding

INVARIANT fail-closed: a step that raises ends the answer broken off, and no later byte of it goes on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from egress.credentials.scrub import Scrub, scrubber_of
from egress.gate.body import BodyPath
from egress.gate.frames import CoveredMessages
from egress.gate.inflate import CODINGS, Inflate
from egress.policy import Reason, Refusal, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.credentials.scrub import Scrubber
    from egress.gate.exchange import Exchange
    from egress.gate.outbound import Field

# A part (RFC 9110, section 15.3.7), or the changes to what a client has (RFC 3229, section 10.4.1).
_PARTS: Final = frozenset({206, 226})
# What a charset must leave as it is for a value to be found in it.
_ASCII: Final = "".join(map(chr, range(0x20, 0x7F)))

# What says something of the bytes as they were coded.
_OF_THE_CODED: Final = frozenset(
    {
        *(b"content-encoding", b"content-length", b"content-md5", b"digest", b"content-digest", b"repr-digest"),
    }
)
# `Range` does not go up (`outbound`): a client that believed it would ask for one part after another, and get the whole
# body each time.
_NOT_OFFERED: Final = b"accept-ranges"
_BINARY_KINDS: Final = frozenset({b"image", b"audio", b"video", b"font"})
_BINARY_TYPES: Final = frozenset(
    {
        b"application/octet-stream",
        b"application/gzip",
        b"application/java-archive",
        b"application/pdf",
        b"application/vnd.docker.image.rootfs.diff.tar.gzip",
        b"application/vnd.oci.image.layer.v1.tar+gzip",
        b"application/vnd.rar",
        b"application/wasm",
        b"application/x-7z-compressed",
        b"application/x-bzip2",
        b"application/x-gzip",
        b"application/x-git-packed-objects",
        b"application/x-rpm",
        b"application/x-tar",
        b"application/x-xz",
        b"application/zip",
        b"application/zstd",
    }
)
_MESSAGES: Final = frozenset({b"application/grpc", b"application/grpc-web"})
_OF_BODY: Final = frozenset({b"content-encoding"})
# What says how messages inside a body are compressed: of gRPC, and of Connect.
_OF_MESSAGES: Final = frozenset({b"grpc-encoding", b"connect-content-encoding"})
_CHARSET: Final = re.compile(rb"charset\s*=[\s\"']*([^\s\"';,]+)", re.IGNORECASE)
_WIDE: Final = re.compile(rb"utf.?(?:7|16|32)|ucs|unicode.?(?:1|16|32)|ebcdic|ibm|cp.?037")
_OF_TEXT: Final = (b"+json", b"+xml", b"+yaml")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is cleaned on its way. `decoded`: its body is no longer in the coding that its head names."""

    scrubber: Scrubber
    decoded: bool = False

    def text(self, value: bytes) -> bytes:
        """A reason phrase, a field's value, a message."""
        return self.scrubber.whole(value)

    def fields(self, fields: Sequence[Field]) -> tuple[Field, ...]:
        """Fields of the head, or trailers: a field whose name holds a value is left out."""
        return tuple(
            [
                (name, self.scrubber.whole(value))
                for name, value in fields
                if name.lower() != _NOT_OFFERED
                and not self.scrubber.is_in_name(name)
                and not (self.decoded and _is_of_the_coded(name, value))
            ]
        )


def cleaned(exchange: Exchange, status: int, fields: Sequence[Field], *, bodiless: bool) -> Answer | Refusal:
    """Have the answer with this head cleaned, its body by steps of `exchange.downward`; or why it must not pass.

    For an exchange whose request carried secrets (`rendered.scrubbed`). `bodiless`: no body follows this head.
    """
    scrubber = _scrubber(exchange)
    codings = _codings(fields)
    known = len(codings) == 1 and codings[0] in CODINGS
    if bodiless:
        return Answer(scrubber, decoded=known)
    binary = is_binary(fields)
    inside = _codings(fields, _OF_MESSAGES)
    problem = _problem(status, codings + inside, known=known and not inside)
    problem = problem or ("" if binary else _unreadable_text(fields))
    rule = exchange.decision.scrub
    if problem and rule is Unreadable.PASS:
        # What cannot be read goes on as it is; its head can be read.
        return Answer(scrubber)
    if problem and (rule is not None or not binary or status in _PARTS):
        return Refusal(Reason.RESPONSE_UNREADABLE, problem)
    scrub = CoveredMessages(scrubber) if _is_of_messages(fields) else Scrub(scrubber, escaped=not binary)
    steps = (Inflate(codings[0]), scrub) if known else (scrub,)
    exchange.downward = BodyPath((*steps, *exchange.downward.steps))
    return Answer(scrubber, decoded=known)


def answer_of(exchange: Exchange) -> Answer:
    """For heads without a body: interim ones (1xx), and the one that ends HTTP (101)."""
    return Answer(_scrubber(exchange))


def is_binary(fields: Sequence[Field]) -> bool:
    """Whether a head declares a type that is no text. Of two declarations none counts."""
    types = [value for name, value in fields if name.lower() == b"content-type"]
    if len(types) != 1:
        return False
    media = types[0].partition(b";")[0].strip().lower()
    return (media.partition(b"/")[0] in _BINARY_KINDS and not media.endswith(_OF_TEXT)) or media in _BINARY_TYPES


def _is_of_messages(fields: Sequence[Field]) -> bool:
    """Whether a body is of gRPC's messages, which end without a mark and are waited for one by one."""
    types = [value for name, value in fields if name.lower() == b"content-type"]
    media = types[0].partition(b";")[0].strip().lower() if len(types) == 1 else b""
    return media.partition(b"+")[0] in _MESSAGES


def _problem(status: int, codings: tuple[bytes, ...], *, known: bool) -> str:
    """Why a body cannot be read; nothing if it can."""
    if status in _PARTS:
        return "the server sent a part of the body that was not asked for"
    if codings and not known:
        # The coding's name is the upstream's: it is not repeated.
        return "the server sent the body in a coding that cannot be read, though none was asked for"
    return ""


def _unreadable_text(fields: Sequence[Field]) -> str:
    """Why a text cannot be read; nothing if it can. A client can ask some servers for UTF-16."""
    types = [value for name, value in fields if name.lower() == b"content-type"]
    # The charset's name is the upstream's, as above.
    return "" if all(map(is_like_ascii, types)) else "the server sent the body in a charset that cannot be read"


@lru_cache(maxsize=256)
def is_like_ascii(content_type: bytes) -> bool:
    """Whether a type's charset, if it declares one, writes ASCII as ASCII. One that nobody knows is taken to."""
    for charset in _CHARSET.findall(content_type):
        name = charset.decode("latin-1")
        try:
            if _ASCII.encode(name) != _ASCII.encode():
                return False
        except (LookupError, ValueError):
            if _WIDE.search(charset.lower()):
                return False
    return True


def _codings(fields: Sequence[Field], names: frozenset[bytes] = _OF_BODY) -> tuple[bytes, ...]:
    """The codings that these fields name, in the order in which they were applied (RFC 9110, section 8.4)."""
    listed = b",".join([value for name, value in fields if name.lower() in names])
    if not listed:
        return ()
    members = [member.strip(b" \t").lower() for member in listed.split(b",")]
    return tuple([member for member in members if member not in (b"", b"identity")])


def _is_of_the_coded(name: bytes, value: bytes) -> bool:
    lower = name.lower()
    return lower in _OF_THE_CODED or (lower == b"etag" and not value.startswith(b"W/"))


def _scrubber(exchange: Exchange) -> Scrubber:
    return scrubber_of(exchange.rendered.scrubbed, exchange.generation.credentials.placeholder)

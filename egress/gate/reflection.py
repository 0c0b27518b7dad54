"""What an upstream sends back of the secrets that a request carried does not reach the sandbox: once, for every lane.

1. the request asks for no coding and no part of a body (`outbound`), so that an answer can be read
2. an answer in gzip or deflate is decoded all the same, and goes on decoded, without the fields that are no longer true
3. any other coding, or a part that nobody asked for, is refused before a byte of it went on; or passes as it is, where
   the rule says `scrub: pass`, or where it says nothing and the type is a binary one
4. what can be read is scrubbed: reason phrase, names and values of fields, trailers, body

INVARIANT fail-closed: a step that raises ends the answer broken off, and no later byte of it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.credentials.scrub import Scrub, scrubber_of
from egress.gate.body import BodyPath
from egress.gate.inflate import CODINGS, Inflate
from egress.policy import Reason, Refusal, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.credentials.scrub import Scrubber
    from egress.gate.exchange import Exchange
    from egress.gate.outbound import Field

_PARTIAL_CONTENT: Final = 206

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
    problem = _problem(status, codings, known=known)
    if problem:
        rule = exchange.decision.scrub
        passes = rule is Unreadable.PASS or (rule is None and binary and status != _PARTIAL_CONTENT)
        # What cannot be read goes on as it is; its head can be read.
        return Answer(scrubber) if passes else Refusal(Reason.RESPONSE_UNREADABLE, problem)
    scrub = Scrub(scrubber, escaped=not binary)
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


def _problem(status: int, codings: tuple[bytes, ...], *, known: bool) -> str:
    """Why a body cannot be read; nothing if it can."""
    if status == _PARTIAL_CONTENT:
        return "the server sent a part of the body that was not asked for"
    if codings and not known:
        # The coding's name is the upstream's: it is not repeated.
        return "the server sent the body in a coding that cannot be read, though none was asked for"
    return ""


def _codings(fields: Sequence[Field]) -> tuple[bytes, ...]:
    """The codings of the body, in the order in which they were applied (RFC 9110, section 8.4)."""
    listed = b",".join([value for name, value in fields if name.lower() == b"content-encoding"])
    if not listed:
        return ()
    members = [member.strip(b" \t").lower() for member in listed.split(b",")]
    return tuple([member for member in members if member not in (b"", b"identity")])


def _is_of_the_coded(name: bytes, value: bytes) -> bool:
    lower = name.lower()
    return lower in _OF_THE_CODED or (lower == b"etag" and not value.startswith(b"W/"))


def _scrubber(exchange: Exchange) -> Scrubber:
    return scrubber_of(exchange.rendered.scrubbed, exchange.generation.credentials.placeholder)

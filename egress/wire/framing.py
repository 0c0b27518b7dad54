"""How long a message's body is, read one way only (RFC 9112 section 6).

Every doubt is a Reject: a second reading is how a request is smuggled past the reader that decides.

1. Content-Length and Transfer-Encoding together: refused.
2. Transfer-Encoding: exactly `chunked`, once, in HTTP/1.1 only.
3. Content-Length: plain decimal digits without sign, list, leading zero or anything else, at most 2**53 - 1. Once in a
   request; a response may repeat the very same value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from egress.wire.outcome import Reject, malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

# The fields that frame a message.
FRAMING = (b"content-length", b"transfer-encoding")
LARGEST_LENGTH = 2**53 - 1
_LONGEST_DIGITS = 16
_DIGITS = re.compile(rb"0|[1-9][0-9]{0,15}")

_BOTH = malformed("both Content-Length and Transfer-Encoding are given")
_BAD_CODING = malformed("Transfer-Encoding is not exactly `chunked`")
_CODING_IN_10 = malformed("Transfer-Encoding is given in HTTP/1.0")
_REPEATED_LENGTH = malformed("Content-Length is given more than once")
_BAD_LENGTH = malformed("Content-Length is not a plain number")


class Version(StrEnum):
    """The versions of HTTP that have a textual head we read."""

    HTTP_10 = "1.0"
    HTTP_11 = "1.1"


@dataclass(frozen=True, slots=True)
class NoBody:
    """The message ends with its head."""


@dataclass(frozen=True, slots=True)
class ContentLength:
    """The body is exactly `length` bytes; 0 if the message said so itself."""

    length: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """The body is in chunks, and ends with the last of them and the trailer section."""


@dataclass(frozen=True, slots=True)
class UntilClose:
    """The body ends where the connection does; responses only."""


type Framing = NoBody | ContentLength | Chunked

NO_BODY = NoBody()
CHUNKED = Chunked()
UNTIL_CLOSE = UntilClose()


def declared_framing(
    version: Version, lengths: Sequence[bytes], codings: Sequence[bytes], *, repeats: bool
) -> Framing | Reject:
    """What the values of Content-Length and Transfer-Encoding say. `repeats`: equal lengths may be repeated."""
    if len(lengths) > 1 and not codings and not (repeats and len(set(lengths)) == 1):
        return _REPEATED_LENGTH
    if len(codings) > 1 and not lengths:
        return _CODING_IN_10 if version is Version.HTTP_10 else _BAD_CODING
    return framing_of(version, lengths[0] if lengths else None, codings[0] if codings else None)


def framing_of(version: Version, length: bytes | None, coding: bytes | None) -> Framing | Reject:
    """What Content-Length and Transfer-Encoding say, each given once or (None) not at all."""
    if length is not None:
        if coding is not None:
            return _BOTH
        return _length(length) if len(length) <= _LONGEST_DIGITS else _BAD_LENGTH
    if coding is None:
        return NO_BODY
    # RFC 9112 section 6.1: a coding in HTTP/1.0 is faulty framing, since older recipients on the way do not know it.
    if version is Version.HTTP_10:
        return _CODING_IN_10
    return CHUNKED if coding.lower() == b"chunked" else _BAD_CODING


@lru_cache(maxsize=1_024)
def _length(value: bytes) -> ContentLength | Reject:
    if not _DIGITS.fullmatch(value) or (length := int(value)) > LARGEST_LENGTH:
        return _BAD_LENGTH
    return ContentLength(length)

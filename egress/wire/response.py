"""Reads a response's head (RFC 9112 section 4) and says how its body ends (section 6.3), as strictly as a request's.

An upstream's answer is as hostile as a client's question: a head that two readers take apart in two ways would let an
upstream put words in the mouth of the next response on the connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from egress.wire.fields import TEXT, Defects, HeadLimits, StartLine, split_head
from egress.wire.framing import (
    FRAMING,
    NO_BODY,
    UNTIL_CLOSE,
    ContentLength,
    Framing,
    NoBody,
    UntilClose,
    Version,
    declared_framing,
    framing_of,
)
from egress.wire.message import Head, by_name, values_of
from egress.wire.outcome import NeedMore, Reject, malformed

DEFAULT_LIMITS = HeadLimits()
_FIRST_FINAL = 200
_NO_CONTENT = 204
_NOT_MODIFIED = 304
_FIRST_REDIRECT = 300

_DEFECTS: Defects = (
    (re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n"), malformed("a line ends in a bare CR or a bare LF")),
    (re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"), malformed("the status line holds a control character")),
    (re.compile(rb""), malformed("the status line is not HTTP/1.0 or HTTP/1.1, a three-digit status and a phrase")),
)
_BODY_FORBIDDEN = malformed("a response that cannot have a body declares one")
_START = b"|".join(re.escape(b"HTTP/1."[:length]) for length in range(7, -1, -1))


def _check_nothing(_line: re.Match[bytes]) -> Reject | None:
    return None


_GRAMMAR = StartLine(
    whole=re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + TEXT + rb"*+))?\r\n"),
    part=re.compile(
        rb"(?:HTTP/1\.[01](?: (?:[1-9](?:[0-9](?:[0-9](?: " + TEXT + rb"*+)?\r?)?)?)?)?|(?:" + _START + rb"))\Z"
    ),
    check=_check_nothing,
    defects=_DEFECTS,
)


@dataclass(slots=True, unsafe_hash=True)
class ResponseHead(Head):
    """A response's head. `framing` is what its fields declare; how its body ends, `response_framing` says.

    `reason` is the phrase as sent: bytes of the upstream's choosing, without controls other than HTAB.
    """

    status: int
    reason: bytes
    framing: Framing

    @property
    def interim(self) -> bool:
        """Whether a further response to the same request follows (1xx other than 101)."""
        return self.status < _FIRST_FINAL and self.status != 101  # noqa: PLR2004 (RFC 9110 section 15.2.2)


def parse_response_head(
    data: bytes | bytearray, limits: HeadLimits = DEFAULT_LIMITS, *, resume: NeedMore | None = None
) -> ResponseHead | NeedMore | Reject:
    """Read the response head that `data` begins with; what follows it is not looked at.

    `resume` is the NeedMore that the last call on the same, then shorter, buffer gave. Content-Length may be repeated
    with the very same value; whoever forwards the head sends it once.
    """
    lines = split_head(data, _GRAMMAR, limits, resume)
    if not isinstance(lines, tuple):
        return lines
    start, fields, length = lines
    minor, status, phrase = start.groups()
    version = Version.HTTP_11 if minor == b"1" else Version.HTTP_10
    single = by_name(fields)
    if single is None:
        framing = declared_framing(version, *values_of(fields, FRAMING), repeats=True)
    else:
        framing = framing_of(version, single.get(b"content-length"), single.get(b"transfer-encoding"))
    if isinstance(framing, Reject):
        return framing
    return ResponseHead(version, fields, length, single, int(status), phrase or b"", framing)


def response_framing(head: ResponseHead, request_method: str) -> Framing | UntilClose | Reject:
    """How the body of `head` ends, as the answer to a request with `request_method` (RFC 9112 section 6.3).

    A 2xx to CONNECT and a 101 have no body: what follows them is the tunnel. A 304, and the answer to a HEAD, may
    declare the length that a body would have had (RFC 9110 section 8.6); bytes that follow belong to no message.
    """
    if head.status < _FIRST_FINAL or head.status == _NO_CONTENT:
        # RFC 9110 section 8.6: neither may declare a body; a server that does will send bytes after the end.
        if isinstance(head.framing, NoBody) or head.framing == ContentLength(0):
            return NO_BODY
        return _BODY_FORBIDDEN
    if head.status == _NOT_MODIFIED or request_method == "HEAD":
        return NO_BODY
    if request_method == "CONNECT" and head.status < _FIRST_REDIRECT:
        return NO_BODY
    return UNTIL_CLOSE if isinstance(head.framing, NoBody) else head.framing

"""Reads a request's head (RFC 9112 section 3), strictly: one reading, or none.

Refused here, beyond what `fields`, `target` and `framing` refuse: anything before the request line, HTTP/0.9 and every
version but 1.0 and 1.1, a repeated Host, one that is not `host[:port]`, a missing one in HTTP/1.1 (except in
absolute-form, whose target is then the only name there is; the proxy writes Host from it), an expectation other than
`100-continue`, and a CONNECT with a body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.wire.fields import TOKEN, Defects, Fields, HeadLimits, StartLine, split_head
from egress.wire.framing import ContentLength, Framing, NoBody, Version, declared_framing
from egress.wire.message import Head
from egress.wire.outcome import NeedMore, Reject, malformed
from egress.wire.target import Target, TargetForm, is_authority, parse_target

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_LIMITS = HeadLimits()

_METHOD = TOKEN + rb"{1,32}+"
# Every printable character but `"#<>\`, none of which any form of target holds.
_TARGET_PART = rb"[/*\[._\-0-9A-Za-z][!$-;=?-\[\]-~]*+"
_VERSION_PART = b"|".join(re.escape(b"HTTP/1."[:length]) for length in range(7, 0, -1))

_DEFECTS: Defects = (
    (re.compile(rb"\A\r?\n"), malformed("an empty line stands before the request line")),
    (re.compile(rb"\A[ \t]"), malformed("whitespace stands before the request line")),
    (re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n"), malformed("a line ends in a bare CR or a bare LF")),
    (re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]"), malformed("the request line holds a control character")),
    (re.compile(rb"\A(?!" + _METHOD + rb"(?: |\Z))"), malformed("the request does not begin with a method")),
    (re.compile(rb"[\x80-\xff]"), malformed("the request target holds bytes outside ASCII")),
    (re.compile(rb"  "), malformed("the request line has more than one space in a row")),
    (re.compile(rb"\A[^ ]+ [^ ]*[#\\\"<>]"), malformed("the request target holds a character that no target has")),
    (re.compile(rb"\A[^ ]+ [^ ]*\r\n"), malformed("the request line has no version")),
    (re.compile(rb""), malformed("the request line is not a method, a target and HTTP/1.0 or HTTP/1.1")),
)
# The fields that decide where a request goes and where it ends.
_DECISIVE = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})

_HOST_MISSING = malformed("an HTTP/1.1 request has no Host")
_HOST_REPEATED = malformed("Host is given more than once")
_HOST_SHAPE = malformed("Host is not a host with an optional port")
_EXPECTATION = malformed("Expect is something other than `100-continue`")
_CONNECT_BODY = malformed("a CONNECT request has a body")


def _check_target(line: re.Match[bytes]) -> Reject | None:
    target = parse_target(line[1].decode("ascii"), line[2].decode("ascii"))
    return target if isinstance(target, Reject) else None


_GRAMMAR = StartLine(
    whole=re.compile(rb"(" + _METHOD + rb") ([!-~]++) HTTP/1\.([01])\r\n"),
    part=re.compile(
        rb"(?:" + _METHOD + rb"(?: (?:" + _TARGET_PART + rb"(?: (?:HTTP/1\.[01]\r?|" + _VERSION_PART + rb")?)?)?)?)?\Z"
    ),
    check=_check_target,
    defects=_DEFECTS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead(Head):
    """A request's head.

    `host` is the Host field's value, shaped `host[:port]`; None where there is none, in HTTP/1.0 and in absolute-form.
    """

    method: str
    target: Target
    host: str | None
    framing: Framing

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends the body (RFC 9110 section 10.1.1)."""
        return self.version is Version.HTTP_11 and b"100-continue" in self.tokens(b"expect")


def parse_request_head(
    data: bytes | bytearray, limits: HeadLimits = DEFAULT_LIMITS, *, resume: NeedMore | None = None
) -> RequestHead | NeedMore | Reject:
    """Read the request head that `data` begins with; what follows it is not looked at.

    `resume` is the NeedMore that the last call on the same, then shorter, buffer gave.
    """
    lines = split_head(data, _GRAMMAR, limits, resume)
    if not isinstance(lines, tuple):
        return lines
    start, fields, length = lines
    method = start[1].decode("ascii")
    target = parse_target(method, start[2].decode("ascii"))
    if isinstance(target, Reject):
        return target
    version = Version.HTTP_11 if start[3] == b"1" else Version.HTTP_10
    return _checked(method, target, version, fields, length)


def _checked(method: str, target: Target, version: Version, fields: Fields, length: int) -> RequestHead | Reject:
    seen: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        if (key := name.lower()) in _DECISIVE:
            seen.setdefault(key, []).append(value)
    host = _host(seen.get(b"host"), required=version is Version.HTTP_11 and target.form is not TargetForm.ABSOLUTE)
    if isinstance(host, Reject):
        return host
    framing = declared_framing(version, seen.get(b"content-length"), seen.get(b"transfer-encoding"), repeats=False)
    if isinstance(framing, Reject):
        return framing
    # RFC 9110 section 9.3.6: what follows a CONNECT's head belongs to the tunnel; a length would be a second reading.
    if method == "CONNECT" and not isinstance(framing, NoBody) and framing != ContentLength(0):
        return _CONNECT_BODY
    expectations = seen.get(b"expect")
    if expectations and (len(expectations) > 1 or expectations[0].lower() != b"100-continue"):
        return _EXPECTATION
    return RequestHead(
        version=version, fields=fields, length=length, method=method, target=target, host=host, framing=framing
    )


def _host(hosts: Sequence[bytes] | None, *, required: bool) -> str | Reject | None:
    # INVARIANT one-name: with two Host fields, or a list in one, two readers can choose two destinations.
    if not hosts:
        return _HOST_MISSING if required else None
    if len(hosts) > 1:
        return _HOST_REPEATED
    host = hosts[0].decode("latin-1")
    return host if is_authority(host) else _HOST_SHAPE

"""Reads a request's head (RFC 9112 section 3), strictly: one reading, or none.

Refused here, beyond what `fields`, `target` and `framing` refuse: anything before the request line, HTTP/0.9 and every
version but 1.0 and 1.1, a repeated Host, one that is not `host[:port]`, a missing one in HTTP/1.1 (except in
absolute-form, whose target is then the only name there is; the proxy writes Host from it), an expectation other than
`100-continue`, and a CONNECT with a body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from egress.wire.fields import TOKEN, Defects, HeadLimits, StartLine, split_head
from egress.wire.framing import FRAMING, ContentLength, Framing, NoBody, Version, declared_framing, framing_of
from egress.wire.message import Head, Single, by_name, repeated_names, values_of
from egress.wire.outcome import NeedMore, Reject, malformed
from egress.wire.target import ORIGIN, Target, TargetForm, is_authority, parse_target

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
    (re.compile(rb"\APRI "), malformed("the method PRI is the beginning of HTTP/2, not a request")),
    (re.compile(rb"\A[^ ]+ [^ ]*[#\\\"<>]"), malformed("the request target holds a character that no target has")),
    (re.compile(rb"\A[^ ]+ [^ ]*\r\n"), malformed("the request line has no version")),
    (re.compile(rb""), malformed("the request line is not a method, a target and HTTP/1.0 or HTTP/1.1")),
)
# A host of 255 characters (with brackets, less), a colon and a port of five digits.
_LONGEST_HOST = 261

_HOST_MISSING = malformed("an HTTP/1.1 request has no Host")
_HOST_REPEATED = malformed("Host is given more than once")
_HOST_SHAPE = malformed("Host is not a host with an optional port")
_EXPECTATION = malformed("Expect is something other than `100-continue`")
_CONNECT_BODY = malformed("a CONNECT request has a body")

_NONE: frozenset[bytes] = frozenset()


def _target(method: str, path: bytes | None, query: bytes | None, line: re.Match[bytes]) -> Target | Reject:
    """The target of a whole request line; its grammar has taken the commonest form apart already."""
    if path is None or method == "CONNECT":
        return parse_target(method, line[0].split(b" ", 2)[1].decode("ascii"))
    return Target(TargetForm.ORIGIN, path.decode("ascii"), None if query is None else query.decode("ascii"))


def _check_target(line: re.Match[bytes]) -> Reject | None:
    target = _target(line[1].decode("ascii"), line[2], line[3], line)
    return target if isinstance(target, Reject) else None


_GRAMMAR = StartLine(
    # Readers that know HTTP/2 take PRI in any version for a switch to it (RFC 9113 section 3.4).
    whole=re.compile(rb"((?!PRI )" + _METHOD + rb") (?:" + ORIGIN + rb"|[!-~]++) HTTP/1\.([01])\r\n"),
    part=re.compile(
        rb"(?:" + _METHOD + rb"(?: (?:" + _TARGET_PART + rb"(?: (?:HTTP/1\.[01]\r?|" + _VERSION_PART + rb")?)?)?)?)?\Z"
    ),
    check=_check_target,
    defects=_DEFECTS,
)


@dataclass(slots=True, unsafe_hash=True)
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


def parse_request_head(  # noqa: PLR0911 -- one return a fault
    data: bytes | bytearray, limits: HeadLimits = DEFAULT_LIMITS, *, resume: NeedMore | None = None
) -> RequestHead | NeedMore | Reject:
    """Read the request head that `data` begins with; what follows it is not looked at.

    `resume` is the NeedMore that the last call on the same, then shorter, buffer gave.
    """
    lines = split_head(data, _GRAMMAR, limits, resume)
    if not isinstance(lines, tuple):
        return lines
    start, fields, length = lines
    method_bytes, path, query, minor = start.groups()
    method = method_bytes.decode("ascii")
    target = _target(method, path, query, start)
    if isinstance(target, Reject):
        return target
    version = Version.HTTP_11 if minor == b"1" else Version.HTTP_10
    single = by_name(fields)
    decisive: Single
    if single is None:
        repeated = repeated_names(fields)
        decisive = {name.lower(): value for name, value in fields}
        framing = declared_framing(version, *values_of(fields, FRAMING), repeats=False)
    else:
        repeated, decisive = _NONE, single
        framing = framing_of(version, single.get(b"content-length"), single.get(b"transfer-encoding"))
    # INVARIANT one-name: with two Host fields, or a list in one, two readers can choose two destinations.
    if b"host" in repeated:
        return _HOST_REPEATED
    host = _host(decisive.get(b"host"), required=version is Version.HTTP_11 and target.form is not TargetForm.ABSOLUTE)
    if isinstance(host, Reject):
        return host
    if isinstance(framing, Reject):
        return framing
    # RFC 9110 section 9.3.6: what follows a CONNECT's head belongs to the tunnel; a length would be a second reading.
    if method == "CONNECT" and not isinstance(framing, NoBody) and framing != ContentLength(0):
        return _CONNECT_BODY
    expectation = decisive.get(b"expect")
    if expectation is not None and (expectation.lower() != b"100-continue" or b"expect" in repeated):
        return _EXPECTATION
    return RequestHead(version, fields, length, single, method, target, host, framing)


def parse_repeated_head(
    data: bytes | bytearray, last: RequestHead, block: bytes, limits: HeadLimits = DEFAULT_LIMITS
) -> RequestHead | None:
    """The head that `data` begins with, if but for its target it is `last`; None: `parse_request_head` has to read it.

    `block` is what follows the first line of the head that `last` was read from, with its empty line. INVARIANT: what
    this gives is what `parse_request_head` gives.
    """
    start = _GRAMMAR.whole.match(data)
    if start is None or start.end() > limits.line or not data.startswith(block, start.end()):
        return None
    method_bytes, path, query, minor = start.groups()
    method = method_bytes.decode("ascii")
    version = Version.HTTP_11 if minor == b"1" else Version.HTTP_10
    length = start.end() + len(block)
    if method != last.method or version is not last.version or length > limits.bytes:
        return None
    target = _target(method, path, query, start)
    if isinstance(target, Reject) or target.form is not last.target.form:
        return None
    return RequestHead(version, last.fields, length, last.single, method, target, last.host, last.framing)


def _host(value: bytes | None, *, required: bool) -> str | Reject | None:
    if value is None:
        return _HOST_MISSING if required else None
    return _shaped_host(value) if len(value) <= _LONGEST_HOST else _HOST_SHAPE


@lru_cache(maxsize=1_024)
def _shaped_host(value: bytes) -> str | Reject:
    host = value.decode("latin-1")
    return host if is_authority(host) else _HOST_SHAPE

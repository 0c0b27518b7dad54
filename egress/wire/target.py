"""The request target in its four forms (RFC 9112 section 3.2), each only where HTTP allows it.

A target that servers are known to read in two ways is refused: a fragment, a backslash, userinfo, a percent sign
that is no escape, a query with no path before it. A path that begins with `//` is read as a path, as RFC 9112 has it
(clients whose base URL ends in a slash send one); where a rule depends on the path, the policy refuses it.

The path and query characters are those of RFC 3986 and, beyond them, the few that the WHATWG URL standard lets
clients send raw: brackets, `|` and `^` in a path, braces and the backquote too in a query. None delimits anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from egress.wire.outcome import Reject, malformed

# The shape only: names, addresses and ports are read by the policy's own canonical parser.
_HOST = r"(?:[A-Za-z0-9._\-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"[0-9]{1,5}"
_PATH_CHARACTERS = r"A-Za-z0-9\-._~!$&'()*+,;=:@/\[\]|^"
_PATH = rf"/(?:[{_PATH_CHARACTERS}]++|%[0-9A-Fa-f]{{2}})*+"
_QUERY = rf"(?:[{_PATH_CHARACTERS}?{{}}`]++|%[0-9A-Fa-f]{{2}})*+"

_AUTHORITY = re.compile(rf"{_HOST}(?::{_PORT})?", re.ASCII)
_AUTHORITY_WITH_PORT = re.compile(rf"{_HOST}:{_PORT}", re.ASCII)
# Origin-form, its path and its query, for the grammar of a whole line too.
ORIGIN = rf"({_PATH})(?:\?({_QUERY}))?".encode("ascii")
_ORIGIN = re.compile(ORIGIN.decode("ascii"), re.ASCII)
_ABSOLUTE = re.compile(
    rf"(https?|wss?)://({_HOST}(?::{_PORT})?)(?:({_PATH})(?:\?({_QUERY}))?)?", re.ASCII | re.IGNORECASE
)

# The first that is found names the defect.
_DEFECTS: tuple[tuple[re.Pattern[str], Reject], ...] = (
    (re.compile(r"#"), malformed("the request target holds a fragment")),
    (re.compile(r"\\"), malformed("the request target holds a backslash")),
    (re.compile(r"\A[^/?]*//[^/?]*@"), malformed("the request target holds user information")),
    (re.compile(r"%(?![0-9A-Fa-f]{2})"), malformed("the request target holds a percent sign that is no escape")),
    (re.compile(r"\A\*"), malformed("the target `*` is for OPTIONS only")),
    (re.compile(r""), malformed("the request target is in none of the forms that HTTP allows for its method")),
)
_CONNECT_DEFECT = malformed("the target of CONNECT is not `host:port`")


class TargetForm(StrEnum):
    """How a request names what it wants (RFC 9112 sections 3.2.1 to 3.2.4)."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    AUTHORITY = "authority"
    ASTERISK = "asterisk"


# Made anew for each request, so not frozen: that would make the making several times as dear. Nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class Target:
    """A request target, taken apart but not decoded; all ASCII.

    `scheme` is lower case, in absolute-form only. `authority` is `host[:port]` as sent, in absolute-form (the port
    may be missing) and authority-form (it never is). `path` begins with one `/`; it is `*` for OPTIONS of a whole
    server and empty for CONNECT. `query` is what follows the `?`, None without one.
    """

    form: TargetForm
    path: str
    query: str | None = None
    scheme: str | None = None
    authority: str | None = None

    @property
    def origin(self) -> str:
        """The target as an origin server is sent it: origin-form, or `*`; empty for CONNECT."""
        return self.path if self.query is None else f"{self.path}?{self.query}"


def parse_target(method: str, text: str) -> Target | Reject:
    """Parse `text`, the target of a request with `method`."""
    if method == "CONNECT":
        if _AUTHORITY_WITH_PORT.fullmatch(text):
            return Target(TargetForm.AUTHORITY, "", authority=text)
        return _CONNECT_DEFECT
    if origin := _ORIGIN.fullmatch(text):
        return Target(TargetForm.ORIGIN, origin[1], origin[2])
    if absolute := _ABSOLUTE.fullmatch(text):
        # RFC 9112 section 3.2.4: OPTIONS for a URI without a path asks about the server as a whole.
        path = absolute[3] or ("*" if method == "OPTIONS" else "/")
        return Target(TargetForm.ABSOLUTE, path, absolute[4], absolute[1].lower(), absolute[2])
    if text == "*" and method == "OPTIONS":
        return Target(TargetForm.ASTERISK, "*")
    return next(reject for pattern, reject in _DEFECTS if pattern.search(text))


def is_authority(text: str) -> bool:
    """Whether `text` has the shape `host[:port]`: neither empty, nor a list, nor with userinfo or a zone."""
    return _AUTHORITY.fullmatch(text) is not None

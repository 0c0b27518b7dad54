"""Reads a URL, or a bare `host:port`, strictly: what two readers could take apart differently is refused.

The generic parsers forgive (backslashes, spaces, tabs, userinfo), and each in its own way; a policy's answer to a
URL must be for the destination that every client would go to. The grammar is that of RFC 3986, sections 3 and 3.2,
without userinfo and without a fragment, which no request carries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.policy import WITHOUT_REQUEST, Host, Protocol, Reason, Refusal, parse_authority

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_URL: Final = 65_536

_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEFAULT_PORTS: Final[dict[Protocol, int | None]] = {
    Protocol.HTTP: 80,
    Protocol.WS: 80,
    Protocol.HTTPS: 443,
    Protocol.WSS: 443,
    Protocol.GRPC: 443,
    Protocol.TCP: None,
    Protocol.DNS: 53,
}
_PLAIN_PORT: Final = 80

_USERINFO: Final = Refusal(Reason.HOST_INVALID, "the URL holds user information before its host")

# What no URL of a request holds, and what is wrong with it.
_NEVER: Final[tuple[tuple[Callable[[str], bool], str], ...]] = (
    (lambda text: not text, "the URL is empty"),
    (lambda text: len(text) > MAX_URL, "the URL is too long"),
    (lambda text: "\\" in text, "the URL holds a backslash, which some read as a slash"),
    (lambda text: "#" in text, "the URL holds a fragment, which no request carries"),
    (lambda text: _SPACE_OR_CONTROL.search(text) is not None, "the URL holds a space or control character"),
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a URL leads. `path` and `query` as written; `path` is `/` if the URL has none, None for tcp and dns.

    `bare`: written as `host:port` or `host`, as a CONNECT names it.
    """

    protocol: Protocol
    host: Host
    port: int
    path: str | None
    query: str | None = None
    bare: bool = False


def parse_url(text: str) -> Destination | Refusal:
    """The destination of a URL. Total: any text gives a destination or a refusal."""
    for wrong, detail in _NEVER:
        if wrong(text):
            return Refusal(Reason.REQUEST_MALFORMED, detail)
    found = _SCHEME.match(text)
    if found is None:
        return _bare(text)
    scheme = found[1].lower()
    if scheme not in Protocol:
        return Refusal(Reason.PROTOCOL_UNKNOWN, "the URL's scheme is none of http, https, ws, wss, grpc, tcp and dns")
    return _after_scheme(Protocol(scheme), text[found.end() :])


def _after_scheme(protocol: Protocol, rest: str) -> Destination | Refusal:
    authority, path, query = _split(rest)
    if not authority:
        return Refusal(Reason.HOST_INVALID, "the URL names no host")
    if "@" in authority:
        return _USERINFO
    named = parse_authority(authority, _DEFAULT_PORTS[protocol])
    if isinstance(named, Refusal):
        return named
    if protocol not in WITHOUT_REQUEST:
        return _with_path(protocol, *named, path, query)
    if path or query is not None:
        return Refusal(Reason.REQUEST_MALFORMED, f"a {protocol} URL has no path and no query")
    return _without_path(protocol, *named)


def _with_path(protocol: Protocol, host: Host, port: int, path: str, query: str | None) -> Destination | Refusal:
    if path.isascii() and (query or "").isascii():
        return Destination(protocol, host, port, path or "/", query)
    return Refusal(Reason.REQUEST_MALFORMED, "the path or query holds characters that a URL writes as %XX")


def _without_path(protocol: Protocol, host: Host, port: int) -> Destination | Refusal:
    if protocol is Protocol.DNS and host.address is not None:
        return Refusal(Reason.HOST_INVALID, "a DNS question is for a name, not for an address")
    return Destination(protocol, host, port, None)


def _bare(text: str) -> Destination | Refusal:
    if "@" in text:
        return _USERINFO
    if "/" in text or "?" in text:
        return Refusal(Reason.REQUEST_MALFORMED, "this is neither a URL nor host:port")
    named = parse_authority(text, _DEFAULT_PORTS[Protocol.HTTPS])
    if isinstance(named, Refusal):
        return named
    host, port = named
    protocol = Protocol.HTTP if port == _PLAIN_PORT else Protocol.HTTPS
    return Destination(protocol, host, port, "/", bare=True)


def _split(rest: str) -> tuple[str, str, str | None]:
    """Authority, path and query of what follows `://`. The first `/` or `?` ends the authority."""
    before_query, mark, query = rest.partition("?")
    authority, slash, path = before_query.partition("/")
    return authority, slash + path, query if mark else None

"""Header fields on their way upstream: what a hop keeps to itself, what a rule removes, what it sets. Pure.

Fields are (name, value) pairs of bytes as they stood on the wire, in order. In which order to call: first
`strip_hop_by_hop`, then `apply_headers`, so that a client's `Connection` can never take away what a rule sets.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.credentials.rendered import Rendered

type Field = tuple[bytes, bytes]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FOLDED = re.compile(r"[^0-9a-z]")

# Fields that one connection keeps to itself, whether Connection names them or not (RFC 9110, section 7.6.1).
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        # The sandbox's credential for us, and our challenge: neither is an upstream's business.
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"upgrade",
        b"http2-settings",
        b"te",
    }
)

# What frames, routes or ends a message. A client's Connection cannot nominate these away: a second reading of the same
# bytes would have another length or host.
_STRUCTURAL = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"trailer",
        b"te",
        b"connection",
        b"upgrade",
        b"keep-alive",
        b"proxy-connection",
        b"http2-settings",
        b"expect",
    }
)

_UNSETTABLE = _STRUCTURAL | HOP_BY_HOP
_NOMINATING = frozenset({b"connection", b"proxy-connection"})

# Names as `_fold` gives them: a client repeats its names with each request. What is remembered hangs on the name alone.
_FOLDED_NAMES: dict[bytes, bytes] = {}
_REMEMBERED_AT_MOST = 4_096
_REMEMBERED_LENGTH = 64


def strip_hop_by_hop(fields: Sequence[Field], *, upgrade: bool = False, protected: Iterable[str] = ()) -> list[Field]:
    """The fields that go on to the next hop, in order (RFC 9110, section 7.6.1; RFC 9112, appendix C.2.2).

    Gone are the hop-by-hop fields and all that `Connection` or `Proxy-Connection` nominates, except structural ones
    and `protected` (names that a rule sets or removes). `TE: trailers` stays, as does `Trailer`: trailers pass end to
    end. With `upgrade`, a WebSocket handshake keeps its `Upgrade: websocket` and gets a `Connection: Upgrade` of its
    own; whether there may be one is decided before.
    """
    kept: list[Field] = []
    own: list[Field] = []
    for field in fields:
        name = field[0].lower()
        if name in HOP_BY_HOP:
            own.append((name, field[1]))
        else:
            kept.append(field)
    if not own:
        return kept
    nominated = {member for name, value in own if name in _NOMINATING for member in _members(value)} - _STRUCTURAL
    if nominated:
        nominated.difference_update([name.lower().encode() for name in protected])
        kept = [field for field in kept if field[0].lower() not in nominated]
    connection: list[bytes] = []
    if any(name == b"te" and b"trailers" in _members(value) for name, value in own):
        # TE is itself hop-by-hop, so it has to be nominated anew for the next one (RFC 9110, section 10.1.4).
        kept.append((b"TE", b"trailers"))
        connection.append(b"TE")
    if upgrade and any(name == b"upgrade" and _members(value) == [b"websocket"] for name, value in own):
        kept.append((b"Upgrade", b"websocket"))
        connection.append(b"Upgrade")
    if connection:
        kept.append((b"Connection", b", ".join(connection)))
    return kept


def apply_headers(fields: Sequence[Field], remove: Sequence[str], inject: Rendered) -> list[Field]:
    """`fields` without the names in `remove` and `inject`, in any spelling, and with what `inject` sets, at the end.

    INVARIANT secret-confinement: the result holds values of secrets; it goes to the upstream's socket and nowhere
    else. Structural names (Host, Content-Length ...) in `remove` or `inject` are left alone: see `settable`.
    """
    ruled = ruled_names((*[name for name, _ in inject.headers], *remove, *inject.withheld))
    kept = [field for field in fields if not is_ruled(field[0], ruled)] if ruled else list(fields)
    kept.extend(injected(inject))
    return kept


def injected(inject: Rendered) -> list[Field]:
    """The fields that `inject` sets. INVARIANT secret-confinement: as above."""
    return [(name.encode("ascii"), value.reveal().encode("ascii")) for name, value in inject.headers if settable(name)]


@lru_cache(maxsize=1_024)
def ruled_names(names: tuple[str, ...]) -> frozenset[bytes]:
    """What stands for all spellings of the header names that a rule sets or removes, for `is_ruled`."""
    return frozenset([_fold(name.encode("ascii")) for name in names if settable(name)])


def is_ruled(name: bytes, ruled: frozenset[bytes]) -> bool:
    """Whether the field `name` gives way to the rule that `ruled` is of."""
    return (_FOLDED_NAMES.get(name) or _fold(name)) in ruled and name.lower() not in _UNSETTABLE


@lru_cache(maxsize=1_024)
def settable(name: str) -> bool:
    """Whether a rule may set or remove the header `name`: a token (RFC 9110, section 5.1) that frames no message."""
    return _TOKEN.fullmatch(name) is not None and name.lower().encode("ascii") not in _UNSETTABLE


def _fold(name: bytes) -> bytes:
    """A name as servers behind CGI, WSGI or PHP know it: there `X_Api_Key` and `X-Api.Key` are `X-Api-Key` too.

    Without it a sandbox sends its own value beside the injected one, and the server picks which to believe.
    """
    folded = _FOLDED.sub("-", name.decode("latin-1").lower()).strip("-").encode() or name
    if len(name) <= _REMEMBERED_LENGTH:
        if len(_FOLDED_NAMES) >= _REMEMBERED_AT_MOST:
            _FOLDED_NAMES.clear()
        _FOLDED_NAMES[name] = folded
    return folded


def _members(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case (RFC 9110, section 5.6.1)."""
    return [member for part in value.split(b",") if (member := part.strip(b" \t").lower())]

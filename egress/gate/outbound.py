"""The fields of a request on its way to the upstream, and of the answer on its way back: once, for every lane.

1. towards the upstream   hop-by-hop fields stay here, Host is written anew, the rule's headers come last; with secrets
                          among them, an answer is asked for that can be searched for them (`reflection`); a signature
                          covers all that, and is put on behind it
2. towards the client     what an upstream may not tell a client is taken out
"""

from __future__ import annotations

import secrets
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from egress.credentials.headers import HOP_BY_HOP, apply_headers, injected, is_ruled, ruled_names, strip_hop_by_hop
from egress.credentials.signature import Outgoing
from egress.gate.denial import DECISION_HEADER
from egress.gate.permit import is_secure
from egress.policy import Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.gate.exchange import Exchange
    from egress.policy import Request

type Field = tuple[bytes, bytes]

WEBSOCKET = frozenset({Protocol.WS, Protocol.WSS})
_WEBSOCKET_EXTENSIONS = b"sec-websocket-extensions"

# What an upstream may not tell a client: our own verdict, a way around us (HTTP/3), its connection's affairs.
_NOT_FOR_CLIENTS = frozenset(
    {DECISION_HEADER.lower().encode(), b"alt-svc", b"proxy-authenticate", b"proxy-connection", b"keep-alive"}
)

VIA = (b"Via", b"1.1 egress")

_NOT_WHEN_SWITCHING = _NOT_FOR_CLIENTS | {_WEBSOCKET_EXTENSIONS}
_OF_THE_CONNECTION = frozenset({b"connection", b"upgrade", b"te", b"proxy-authorization", b"http2-settings"})


def upstream_fields(
    exchange: Exchange, fields: Sequence[Field], *, host: bool = True, framing: bool = True, via: bool = False
) -> list[Field]:
    """The fields that the upstream gets for a request with `fields`; from here on they may hold secrets.

    `host` False leaves Host to whoever sends the request: HTTP/2 names its authority elsewhere. `framing` False leaves
    out the fields that frame the body, else they are left as they are. `via` adds ours (RFC 9110, section 7.6.3),
    which nobody gets unasked: it tells an upstream that a sandbox is behind it.
    """
    upgrade = exchange.request.protocol in WEBSOCKET
    rendered, remove = exchange.rendered, exchange.decision.remove
    names = (*[name for name, _ in rendered.headers], *remove, *rendered.withheld)
    table = _upwards(names, host=host, framing=framing)
    kept = None if upgrade else _passed_up(fields, table)
    quick = kept is not None
    if kept is None:
        kept = strip_hop_by_hop(fields, upgrade=upgrade, protected=names)
        kept = [field for field in kept if field[0].lower() not in table.rewritten]
        if upgrade:
            # Compression would let a few bytes become many in memory; without an offer there is none (RFC 7692).
            kept = [field for field in kept if field[0].lower() != _WEBSOCKET_EXTENSIONS]
    if host:
        # A proxy writes Host anew from what was asked for (RFC 9112, section 3.2.2).
        kept.insert(0, (b"Host", authority_of(exchange.request)))
    if via and not is_ruled(VIA[0], table.ruled):
        kept.append(VIA)
    fields = kept + injected(rendered) if quick else apply_headers(kept, remove, rendered)
    return _readable(fields) if rendered.scrubbed else fields


def _readable(fields: list[Field]) -> list[Field]:
    """Ask for an answer that can be searched for the secrets in these fields: whole, and in no coding.

    Parts of a body could be asked for byte by byte, each too short to hold a value.
    """
    return [*[field for field in fields if not is_ruled(field[0], _OF_FORM)], (b"Accept-Encoding", b"identity")]


def upstream_head(
    exchange: Exchange, fields: Sequence[Field], *, host: bool = True, framing: bool = True, via: bool = False
) -> tuple[str, list[Field]]:
    """The target and the fields (see `upstream_fields`) that the upstream gets, signed where a rule signs.

    Nothing that a signature covers may be changed behind it: what stands here is what goes up.
    """
    kept = upstream_fields(exchange, fields, host=host, framing=framing, via=via)
    request, signature = exchange.request, exchange.rendered.signature
    if signature is None:
        return target_of(exchange), kept
    sent = Outgoing(
        request.method or "",
        authority_of(request),
        request.path or "/",
        request.query,
        kept,
        time.time(),
        secrets.token_hex(16),
    )
    query, signed = signature.put_on(sent)
    return _origin(request.path, query), signed


def client_fields(fields: Sequence[Field], *, switching: bool = False) -> list[Field]:
    """The fields of an upstream's answer that a client may see. `switching`: of an answer that ends HTTP (101)."""
    if switching:
        kept = [field for field in fields if field[0].lower() not in _NOT_WHEN_SWITCHING]
        return strip_hop_by_hop(kept, upgrade=True)
    return _passed(fields, _STAYS)


def unframed_client_fields(fields: Sequence[Field]) -> list[Field]:
    """As `client_fields`, without those that say how long the body is: for who frames it anew."""
    return _passed(fields, _STAYS_UNFRAMED)


def _passed(fields: Sequence[Field], table: _Spellings) -> list[Field]:
    kept = []
    for field in fields:
        stays = table.known.get(field[0])
        if stays is None:
            stays = table.stays(field[0])
        if stays:
            kept.append(field)
        elif field[0].lower() == b"connection" and field[1].lower() not in (b"keep-alive", b"close"):
            # It names fields of its own: the long way (RFC 9110, section 7.6.1).
            stripped = strip_hop_by_hop(fields)
            return [
                field
                for field in stripped
                if field[0].lower() not in table.gone and field[0].lower() not in table.rewritten
            ]
    return kept


def _passed_up(fields: Sequence[Field], table: _Spellings) -> list[Field] | None:
    """The fields that stay; None if one of the others says something of them, or of the next hop."""
    kept = []
    for field in fields:
        stays = table.known.get(field[0])
        if stays is None:
            stays = table.stays(field[0])
        if stays:
            kept.append(field)
        elif field[0].lower() in _TELLING and field[1] != b"keep-alive":
            return None
    return kept


class _Spellings:
    """Whether a field of a name passes, remembered by the name's spelling, which costs less than lowering it.

    Out go the names in `gone` (lower case) and in `rewritten` (as well), and those that a rule is in charge of.
    """

    def __init__(
        self,
        gone: frozenset[bytes],
        rewritten: frozenset[bytes] = frozenset(),
        ruled: frozenset[bytes] = frozenset(),
    ) -> None:
        self.gone = gone
        self.rewritten = rewritten
        self.ruled = ruled
        self.known: dict[bytes, bool] = {}

    def stays(self, name: bytes) -> bool:
        """Find out, and remember."""
        lower = name.lower()
        stays = lower not in self.gone and lower not in self.rewritten and not is_ruled(name, self.ruled)
        if len(name) <= _SPELLING_LENGTH:
            if len(self.known) >= _SPELLINGS_AT_MOST:
                self.known.clear()
            self.known[name] = stays
        return stays


@lru_cache(maxsize=64)
def _upwards(names: tuple[str, ...], *, host: bool, framing: bool) -> _Spellings:
    """The table for requests whose rule sets or removes `names`; `host`, `framing`: as of `upstream_fields`."""
    rewritten = (_HOST if host else _NONE) | (_NONE if framing else _FRAMING)
    return _Spellings(HOP_BY_HOP, rewritten, ruled_names(names))


# `A-IM` asks for changes only, coded by a name of its own (RFC 3229); `Accept-Charset` for text that nobody can search;
# gRPC and Connect ask by names of their own for messages that are compressed inside a body that is not.
_OF_FORM = ruled_names(
    (
        *("Accept-Encoding", "Accept-Charset", "A-IM", "Range", "If-Range"),
        *("Grpc-Accept-Encoding", "Connect-Accept-Encoding"),
    )
)
_SPELLINGS_AT_MOST = 512
_SPELLING_LENGTH = 64
_NONE: frozenset[bytes] = frozenset()
_HOST = frozenset({b"host"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_TELLING = frozenset({b"connection", b"proxy-connection", b"te"})
_STAYS = _Spellings(_NOT_FOR_CLIENTS | _OF_THE_CONNECTION)
_STAYS_UNFRAMED = _Spellings(_NOT_FOR_CLIENTS | _OF_THE_CONNECTION, _FRAMING)


def origin_of(request: Request) -> str:
    """The target in origin-form."""
    return _origin(request.path, request.query)


def _origin(path: str | None, query: str | None) -> str:
    path = path or "/"
    return path if query is None else f"{path}?{query}"


def target_of(exchange: Exchange) -> str:
    """The target in origin-form as the upstream gets it. INVARIANT secret-confinement: it may hold secrets."""
    target = exchange.rendered.target
    return origin_of(exchange.request) if target is None else target.reveal()


def authority_of(request: Request) -> bytes:
    """The destination as Host names it, its port left out where it is the default."""
    host = f"[{request.host.text}]" if ":" in request.host.text else request.host.text
    default = 443 if is_secure(request) else 80
    return (host if request.port == default else f"{host}:{request.port}").encode("ascii")

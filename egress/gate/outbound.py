"""The fields of a request on its way to the upstream, and of the answer on its way back: once, for every lane.

1. towards the upstream   hop-by-hop fields stay here, Host is written anew, the rule's headers come last
2. towards the client     what an upstream may not tell a client is taken out
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.credentials.headers import apply_headers, strip_hop_by_hop
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

_NOT_WHEN_SWITCHING = _NOT_FOR_CLIENTS | {_WEBSOCKET_EXTENSIONS}
_OF_THE_CONNECTION = frozenset({b"connection", b"upgrade", b"te", b"proxy-authorization", b"http2-settings"})

_STAYS: dict[bytes, bool] = {}
_SPELLINGS_AT_MOST = 1024


def upstream_fields(exchange: Exchange, fields: Sequence[Field], *, host: bool = True) -> list[Field]:
    """The fields that the upstream gets for a request with `fields`; from here on they may hold secrets.

    `host` False leaves Host to whoever sends the request: HTTP/2 names its authority elsewhere. Fields that frame the
    body are left as they are.
    """
    upgrade = exchange.request.protocol in WEBSOCKET
    rendered = exchange.rendered
    protected = [*(name for name, _ in rendered.headers), *rendered.withheld, *exchange.decision.remove]
    kept = strip_hop_by_hop(fields, upgrade=upgrade, protected=protected)
    if upgrade:
        # Compression would let a few bytes become many in memory; without an offer there is none (RFC 7692).
        kept = [field for field in kept if field[0].lower() != _WEBSOCKET_EXTENSIONS]
    if host:
        # A proxy writes Host anew from what was asked for (RFC 9112, section 3.2.2).
        kept = [(b"Host", authority_of(exchange.request)), *(field for field in kept if field[0].lower() != b"host")]
    return apply_headers(kept, exchange.decision.remove, rendered)


def client_fields(fields: Sequence[Field], *, switching: bool = False) -> list[Field]:
    """The fields of an upstream's answer that a client may see. `switching`: of an answer that ends HTTP (101)."""
    if switching:
        kept = [field for field in fields if field[0].lower() not in _NOT_WHEN_SWITCHING]
        return strip_hop_by_hop(kept, upgrade=True)
    kept = []
    for field in fields:
        stays = _STAYS.get(field[0])
        if stays is None:
            stays = _stays(field[0])
        if stays:
            kept.append(field)
        elif field[0].lower() == b"connection" and field[1].lower() not in (b"keep-alive", b"close"):
            # It names fields of its own: the long way (RFC 9110, section 7.6.1).
            return strip_hop_by_hop([field for field in fields if field[0].lower() not in _NOT_FOR_CLIENTS])
    return kept


def _stays(name: bytes) -> bool:
    """Whether a field of this name reaches the client. Remembered by spelling, which costs less than lowering it."""
    lower = name.lower()
    stays = lower not in _NOT_FOR_CLIENTS and lower not in _OF_THE_CONNECTION
    if len(_STAYS) < _SPELLINGS_AT_MOST:
        _STAYS[name] = stays
    return stays


def origin_of(request: Request) -> str:
    """The target in origin-form."""
    path = request.path or "/"
    return path if request.query is None else f"{path}?{request.query}"


def authority_of(request: Request) -> bytes:
    """The destination as Host names it, its port left out where it is the default."""
    host = f"[{request.host.text}]" if ":" in request.host.text else request.host.text
    default = 443 if is_secure(request) else 80
    return (host if request.port == default else f"{host}:{request.port}").encode("ascii")

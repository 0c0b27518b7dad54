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

VIA = (b"Via", b"1.1 egress")

_NOT_WHEN_SWITCHING = _NOT_FOR_CLIENTS | {_WEBSOCKET_EXTENSIONS}
_OF_THE_CONNECTION = frozenset({b"connection", b"upgrade", b"te", b"proxy-authorization", b"http2-settings"})


def upstream_fields(
    exchange: Exchange, fields: Sequence[Field], *, host: bool = True, via: bool = False
) -> list[Field]:
    """The fields that the upstream gets for a request with `fields`; from here on they may hold secrets.

    `host` False leaves Host to whoever sends the request: HTTP/2 names its authority elsewhere. Fields that frame the
    body are left as they are. `via` adds ours (RFC 9110, section 7.6.3), which nobody gets unasked: it tells an
    upstream that a sandbox is behind it.
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
    if via:
        kept.append(VIA)
    return apply_headers(kept, exchange.decision.remove, rendered)


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
            return [field for field in stripped if field[0].lower() not in table.gone]
    return kept


class _Spellings:
    """Whether a field of a name passes, remembered by the name's spelling, which costs less than lowering it."""

    def __init__(self, gone: frozenset[bytes]) -> None:
        self.gone = gone
        self.known: dict[bytes, bool] = {}

    def stays(self, name: bytes) -> bool:
        """Find out, and remember, while there is room."""
        stays = name.lower() not in self.gone
        if len(self.known) < _SPELLINGS_AT_MOST:
            self.known[name] = stays
        return stays


_SPELLINGS_AT_MOST = 1024
_STAYS = _Spellings(_NOT_FOR_CLIENTS | _OF_THE_CONNECTION)
_STAYS_UNFRAMED = _Spellings(_NOT_FOR_CLIENTS | _OF_THE_CONNECTION | {b"content-length", b"transfer-encoding"})


def origin_of(request: Request) -> str:
    """The target in origin-form."""
    path = request.path or "/"
    return path if request.query is None else f"{path}?{request.query}"


def authority_of(request: Request) -> bytes:
    """The destination as Host names it, its port left out where it is the default."""
    host = f"[{request.host.text}]" if ":" in request.host.text else request.host.text
    default = 443 if is_secure(request) else 80
    return (host if request.port == default else f"{host}:{request.port}").encode("ascii")

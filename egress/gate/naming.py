"""From a parsed head to the request that the policy judges: one destination, named alike everywhere, or a refusal.

INVARIANT one-name: target, Host (or `:authority`) and, inside a tunnel, the CONNECT target are one host and port.

1. outside a tunnel  absolute-form with `http` only: the proxy is asked for a whole URL, and TLS needs CONNECT
2. inside a tunnel   origin-form (or `*`) only: an absolute URL there could name somebody else
3. Host              present, once, equal to the destination, port defaults by scheme
4. Upgrade           nothing, or exactly a WebSocket handshake
5. TRACE             never: its answer would repeat injected headers
6. Trailer           none announced: they would come after the decision
7. gRPC              a POST over HTTP/2 of the media type `application/grpc`, perhaps with `+` and a format; two media
                     types of which one is that are refused, since a server may take either
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.policy import Host, Protocol, Reason, Refusal, Request, parse_authority
from egress.wire.chunked import ChunkedChecker
from egress.wire.head import Chunked, TargetForm

if TYPE_CHECKING:
    from egress.wire.head import RequestHead


@dataclass(frozen=True, slots=True)
class Route:
    """Where the connection that a request came on leads: a tunnel's destination, and whether it was opened TLS."""

    host: Host
    port: int
    tls: bool


NOWHERE = (Host(""), 0)
_GRPC = b"application/grpc"


def name_request(  # noqa: PLR0911 -- one return a fault
    head: RequestHead, sandbox: str, route: Route | None, *, http2: bool = False
) -> Request | Refusal:
    """The request in `head` as the policy core judges it. `route` None: the client speaks to the proxy itself.

    `http2`: it came over HTTP/2, so it may be gRPC.
    """
    # Servers exist that read methods in any case.
    if head.method.upper() == "TRACE":
        return Refusal(Reason.METHOD_NOT_ALLOWED, "TRACE is never passed on: it would echo what the proxy adds")
    if head.values(b"trailer"):
        return Refusal(Reason.REQUEST_MALFORMED, "fields after the body are not passed on: no rule has seen them")
    destination = _proxied(head) if route is None else _tunnelled(head, route)
    if isinstance(destination, Refusal):
        return destination
    host, port, tls = destination
    named = _check_host(head, host, port, tls=tls)
    if named is not None:
        return named
    upgrade = _upgrade(head)
    if isinstance(upgrade, Refusal):
        return upgrade
    plain, secure = (Protocol.WS, Protocol.WSS) if upgrade else (Protocol.HTTP, Protocol.HTTPS)
    if http2 and tls:
        grpc = _is_grpc(head)
        if isinstance(grpc, Refusal):
            return grpc
        secure = Protocol.GRPC if grpc else secure
    return Request(
        sandbox,
        secure if tls else plain,
        host,
        port,
        head.method,
        head.target.path,
        head.target.query,
        tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.fields]),
    )


def name_connect(head: RequestHead, *, inside: bool) -> tuple[tuple[Host, int], Refusal | None]:
    """The destination of a CONNECT as far as it can be read, and why it is refused if it is. `inside`: of a tunnel."""
    named = parse_authority(head.target.authority or "", None)
    if isinstance(named, Refusal):
        return NOWHERE, named
    if head.host is not None and parse_authority(head.host, named[1]) != named:  # INVARIANT one-name
        return named, Refusal(Reason.NAME_MISMATCH, "Host is not the CONNECT target")
    if inside:
        return named, Refusal(Reason.REQUEST_MALFORMED, "a CONNECT inside a tunnel")
    return named, None


def early_problem(head: RequestHead, after: bytes | bytearray) -> Refusal | None:
    """What is wrong with as much of a request's body as came with its head; nothing of it has left yet."""
    if not isinstance(head.framing, Chunked) or not after:
        return None
    checker = ChunkedChecker()
    rejected = checker.feed(after)
    if rejected is not None:
        return Refusal(Reason.REQUEST_MALFORMED, rejected.detail)
    if checker.trailers:
        return Refusal(Reason.REQUEST_MALFORMED, "fields after the body are not passed on: no rule has seen them")
    return None


def unnamed(sandbox: str, head: RequestHead | None, route: Route | None) -> Request:
    """As much of a request as is known, for the record of its refusal."""
    host, port = NOWHERE if route is None else (route.host, route.port)
    protocol = Protocol.HTTPS if route is not None and route.tls else Protocol.HTTP
    if head is None:
        return Request(sandbox, protocol, host, port)
    if route is None:
        named = parse_authority(head.target.authority or "", 80)
        if not isinstance(named, Refusal):
            host, port = named
    return Request(sandbox, protocol, host, port, head.method, head.target.path, head.target.query)


def _proxied(head: RequestHead) -> tuple[Host, int, bool] | Refusal:
    target = head.target
    if target.form is not TargetForm.ABSOLUTE:
        return Refusal(
            Reason.REQUEST_MALFORMED, "this is a proxy: ask it for a whole URL, or for a tunnel with CONNECT"
        )
    if target.scheme not in ("http", "ws"):
        return Refusal(Reason.REQUEST_MALFORMED, "an https URL is asked for through CONNECT, not in the clear")
    named = parse_authority(target.authority or "", 80)
    if isinstance(named, Refusal):
        return named
    return *named, False


def _tunnelled(head: RequestHead, route: Route) -> tuple[Host, int, bool] | Refusal:
    if head.method == "CONNECT":
        return Refusal(Reason.REQUEST_MALFORMED, "a CONNECT inside a tunnel")
    if head.target.form not in (TargetForm.ORIGIN, TargetForm.ASTERISK):
        return Refusal(Reason.NAME_MISMATCH, "inside a tunnel the request names a path, never a whole URL")
    return route.host, route.port, route.tls


def _check_host(head: RequestHead, host: Host, port: int, *, tls: bool) -> Refusal | None:
    if head.host is None:
        if head.target.form is TargetForm.ABSOLUTE:
            return None
        return Refusal(Reason.REQUEST_MALFORMED, "the request has no Host")
    named = parse_authority(head.host, 443 if tls else 80)
    if isinstance(named, Refusal):
        return named
    if named != (host, port):
        return Refusal(Reason.NAME_MISMATCH, "Host is not the destination of the connection")
    return None


def _is_grpc(head: RequestHead) -> bool | Refusal:
    types = [value.partition(b";")[0].strip(b" \t").lower() for value in head.values(b"content-type")]
    grpc = [each == _GRPC or each.startswith(_GRPC + b"+") for each in types]
    if len(grpc) > 1 and any(grpc):
        return Refusal(Reason.REQUEST_MALFORMED, "the request has more than one Content-Type, and one is gRPC")
    return any(grpc) and head.method == "POST"


def _upgrade(head: RequestHead) -> bool | Refusal:
    """True for a WebSocket handshake, False for none; anything else that asks to switch is refused."""
    if not head.upgrade:
        return False
    if head.upgrade != (b"websocket",):
        return Refusal(Reason.UPGRADE_NOT_ALLOWED, "only a plain WebSocket handshake may ask for an upgrade")
    if head.method != "GET" or b"upgrade" not in head.connection:
        return Refusal(Reason.UPGRADE_NOT_ALLOWED, "a WebSocket handshake is a GET whose Connection names Upgrade")
    return True

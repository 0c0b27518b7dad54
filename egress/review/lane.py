"""Which lane a common client's request takes, as the audit would record it, and what that means.

1. no lane     what is refused before one is picked: the name step's no to a CONNECT
2. by protocol plain HTTP is read as it comes; TLS goes where its name and the client's ALPN lead
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from egress.policy import Certainty, Lane, Protocol, TlsMode
from egress.policy.lanes import HTTP_1_1, HTTP_2, Opened, pick_lane

if TYPE_CHECKING:
    from egress.policy import Decision, NameDecision

# A WebSocket begins with a request of HTTP/1.1 (RFC 6455), so its client names no other.
_OFFERED: Final = {
    Protocol.HTTPS: (HTTP_2, HTTP_1_1),
    Protocol.WSS: (HTTP_1_1,),
    # gRPC's clients speak nothing else.
    Protocol.GRPC: (HTTP_2,),
}


def lane_of(protocol: Protocol, name: NameDecision, *, connect: bool) -> Lane | None:
    """What carries an HTTP request of which this is the name step's answer. `connect`: it comes through a CONNECT."""
    if connect and name.certainty is Certainty.NO:
        return None
    offered = _OFFERED.get(protocol)
    if offered is None:
        return pick_lane(Opened.HTTP)
    return pick_lane(Opened.TLS, tunnel=name.tls is TlsMode.TUNNEL, alpn=offered, http2=name.http2)


def lane_of_tcp(decision: Decision) -> Lane | None:
    """What carries raw TCP; None where its CONNECT is refused."""
    return pick_lane(Opened.RAW) if decision.allowed else None


def lane_at_denial(lane: Lane | None, protocol: Protocol) -> Lane | None:
    """The lane that denies. TLS that stays closed is judged as a whole at its CONNECT, before it has one."""
    return None if lane is Lane.TUNNEL and protocol in _OFFERED else lane


def lane_text(lane: Lane, protocol: Protocol) -> str:
    """What the lane does, for people."""
    match lane:
        case Lane.TUNNEL:
            return "passes unopened, judged by its name and address"
        case Lane.HTTP if protocol is Protocol.HTTPS:
            return "read as HTTP/1.1; a client that offers HTTP/2 alone is carried by `mitm`"
        case Lane.HTTP:
            return "read as HTTP/1.1"
        case Lane.MITM if protocol is Protocol.GRPC:
            return "carried as HTTP/2"
        case Lane.MITM:
            return "carried as HTTP/2, which a rule asks for; a client that does not offer it is carried by `http`"
        case _:
            assert_never(lane)

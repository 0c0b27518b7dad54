"""Whether a TLS ClientHello is one for the destination that was judged: INVARIANT one-name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy import Reason, Refusal, TlsMode, parse_authority
from egress.wire.client_hello import ClientHello

if TYPE_CHECKING:
    from egress.gate.connecting import Destination
    from egress.wire.outcome import NeedMore, Reject


def hello_problem(hello: ClientHello | NeedMore | Reject, destination: Destination) -> Refusal | None:
    """What keeps a hello, as `parse_client_hello` read it, from being one for this destination."""
    if not isinstance(hello, ClientHello):
        return Refusal(Reason.REQUEST_MALFORMED, "the TLS hello cannot be read in one way")
    if hello.ech and destination.tls is TlsMode.TUNNEL and not destination.ech:
        return Refusal(Reason.ECH_REFUSED, "")
    if destination.tls is not TlsMode.TUNNEL and not destination.presentable:
        return Refusal(Reason.CA_CONSTRAINED, "")
    if hello.sni is None:
        return None if destination.host.address is not None else Refusal(Reason.SNI_MISSING, "")
    named = parse_authority(hello.sni, destination.port)
    if isinstance(named, Refusal) or named[0] != destination.host:
        return Refusal(Reason.NAME_MISMATCH, "SNI is not the destination of the connection")
    return None

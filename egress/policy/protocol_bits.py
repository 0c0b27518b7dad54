"""Sets of protocols as bits: hashing an enum member costs more than all the rest of a comparison."""

from __future__ import annotations

from typing import Final

from egress.policy.vocabulary import Protocol

BIT: Final = {protocol: 1 << place for place, protocol in enumerate(Protocol)}
EVERY: Final = sum(BIT.values())
TCP: Final = BIT[Protocol.TCP]
HTTP: Final = BIT[Protocol.HTTP] | BIT[Protocol.HTTPS] | BIT[Protocol.GRPC]
WEBSOCKET: Final = BIT[Protocol.WS] | BIT[Protocol.WSS]
CLEAR: Final = BIT[Protocol.HTTP] | BIT[Protocol.WS]
GRPC: Final = BIT[Protocol.GRPC]
DNS: Final = BIT[Protocol.DNS]
OVER_TLS: Final = BIT[Protocol.HTTPS] | BIT[Protocol.WSS] | GRPC
# For each protocol its bit, and what a destination of it may turn out to carry: an upgrade, and whether it is gRPC, is
# known at the request only.
ALTERNATIVES: Final = {
    protocol: (bit, next((group for group in (CLEAR, OVER_TLS) if bit & group), bit)) for protocol, bit in BIT.items()
}

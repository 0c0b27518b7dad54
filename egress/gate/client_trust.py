"""Why a client ended its TLS handshake with us: by its alert (RFC 8446, section 6.2), whichever TLS library read it.

A client that says why it refuses our certificate either pins the server's own or has a store without our CA. One that
closes without a word may have any reason, and none is made up.
"""

from __future__ import annotations

from typing import Final

ENDED: Final = "the client ended the TLS handshake"
# As OpenSSL words the alerts, by the names that the RFC gives them.
_REFUSALS: Final = {
    "unknown ca": "unknown_ca",
    "bad certificate": "bad_certificate",
    "certificate unknown": "certificate_unknown",
}


def why_ended(error: str) -> str:
    """The detail of a row, from what the TLS library said of the handshake; the error itself goes nowhere."""
    said = error.lower().replace("_", " ")
    alert = next((name for words, name in _REFUSALS.items() if f"alert {words}" in said), None)
    if alert is None:
        return ENDED
    return f"the client refused the proxy's certificate ({alert}): likely pinned, or its store lacks the CA"

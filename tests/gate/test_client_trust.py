"""Why a client ended its handshake: said where its alert says it, in the words of either TLS library."""

from __future__ import annotations

import pytest

from egress.gate.client_trust import ENDED, why_ended

REFUSED = "the client refused the proxy's certificate ({}): likely pinned, or its store lacks the CA"
# What Python's ssl or mitmproxy's OpenSSL says, and the alert that it speaks of.
CASES = [
    ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:1028)", "unknown_ca"),
    ("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate (_ssl.c:1028)", "bad_certificate"),
    ("[SSL: SSLV3_ALERT_CERTIFICATE_UNKNOWN] ssl/tls alert certificate unknown", "certificate_unknown"),
    ("OpenSSL Error([('SSL routines', '', 'tlsv1 alert unknown ca')])", "unknown_ca"),
    ("OpenSSL Error([('SSL routines', '', 'ssl/tls alert certificate unknown')])", "certificate_unknown"),
    ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", None),
    ("EOF occurred in violation of protocol (_ssl.c:1028)", None),
    ("connection closed", None),
    ("unknown ca", None),
    ("", None),
]


@pytest.mark.parametrize(("said", "alert"), CASES)
def test_only_the_alerts_about_certificates_say_why(said: str, alert: str | None) -> None:
    """Whoever closes without a word may have any reason; none is made up."""
    assert why_ended(said) == (ENDED if alert is None else REFUSED.format(alert))

"""Why a request failed in mitmproxy's layers: a reason, and a sentence in which no byte of the wire stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.gate.body import misdirection
from egress.gate.permit import is_secure
from egress.mitm.stream import FAILURE, UNREADABLE, Failure
from egress.policy import Reason

if TYPE_CHECKING:
    from mitmproxy import http

    from egress.gate.exchange import Exchange

_VERIFY_FAILED = "Certificate verify failed"
_NOT_OUR_TLS = "The remote server "


def failure_of(flow: http.HTTPFlow, exchange: Exchange) -> tuple[Reason | None, str]:  # noqa: PLR0911 -- one a failure
    """What went wrong with an admitted request, in our own words; no reason means that the client went away."""
    match flow.metadata.get(FAILURE):
        case Failure.CLIENT:
            return None, ""
        case Failure.REQUEST:
            return Reason.REQUEST_MALFORMED, "the body breaks the rules of HTTP, or fields follow it"
        case Failure.LIMIT:
            return Reason.LIMIT_BYTES, ""
        case Failure.PLACEHOLDER:
            refusal = misdirection(exchange)
            return refusal.reason, refusal.detail
        case Failure.MALFORMED:
            return Reason.UPSTREAM_MALFORMED, ""
        case Failure.UNREADABLE:
            return Reason.RESPONSE_UNREADABLE, str(flow.metadata.get(UNREADABLE, ""))
        case Failure.CLOSED:
            return Reason.UPSTREAM_UNREACHABLE, "the server closed the connection"
        case Failure.CONNECT:
            return _connect_failure("" if flow.error is None else flow.error.msg, exchange)
        case _:
            return Reason.UPSTREAM_UNREACHABLE, ""


def _connect_failure(message: str, exchange: Exchange) -> tuple[Reason, str]:
    """Tell our own sentences, and OpenSSL's of a certificate, from mitmproxy's, which repeat bytes of the wire."""
    if message.startswith(_VERIFY_FAILED):
        return Reason.UPSTREAM_TLS, message
    if is_secure(exchange.request) and ("SSL" in message or message.startswith(_NOT_OUR_TLS)):
        return Reason.UPSTREAM_TLS, "the TLS handshake with the server failed"
    return Reason.UPSTREAM_UNREACHABLE, "" if "SSL" in message else message

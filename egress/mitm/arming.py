"""The state of refusal, in which the data of each hook begins and which only the hook's last statement takes out.

INVARIANT fail-closed: a hook that never ran, raised or hung leaves a refusal behind.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from mitmproxy import dns, http

from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.policy import Reason

# Hooks whose refusal is an answer that the client still gets.
ANSWERED = frozenset({"requestheaders", "http_connect"})


def arm(name: str, data: Any) -> None:
    """Put the state of refusal into a hook's data; the hook's last step takes it out again."""
    match name:
        case "client_connected":
            data.error = "not judged"
        case "server_connect":
            data.server.error = "not judged"
        case "http_connect" | "requestheaders":
            data.response = not_judged()
        case "tls_start_client" | "tls_start_server":
            data.ssl_conn = None
        case "egress_upstream_ready":
            data.refusal = "the connection was not judged"
        case "egress_body_part":
            data.may_pass = 0
        case "dns_request" if isinstance(data, dns.DNSFlow):
            data.response = data.request.fail(dns.response_codes.REFUSED)
        case _:
            pass


@cache
def not_judged() -> http.Response:
    """The refusal that is there before a hook has run; nobody gets it but where the hook did not run to its end."""
    return refusal(Denial(new_decision_id(), Reason.INTERNAL_ERROR))


def refusal(denial: Denial) -> http.Response:
    """A denial as mitmproxy's response."""
    body = denial.body()
    response = http.Response.make(denial.status, body, http.Headers(denial.headers(length=len(body))))
    response.reason = denial.reason_phrase
    return response

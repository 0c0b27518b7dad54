"""Where a lane carries a case otherwise than the data say, and why that is no weaker. Short by intent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from conformance.cases import RequestCase, ResponseCase


@dataclass(frozen=True, slots=True)
class Difference:
    """What `lane` does instead: of each of these cases the fields that change, and the reason."""

    lane: str
    why: str
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    responses: dict[str, dict[str, Any]] = field(default_factory=dict)


_OLD = b"GET / HTTP/1.0\r\nHost: origin.test\r\n\r\n"
_OLD_POST = b"POST / HTTP/1.0\r\nHost: origin.test\r\nContent-Length: 5\r\n\r\nhello"
_ODD_LENGTH = b"POST / HTTP/1.1\r\nHost: origin.test\r\nconTENT-Length: 5\r\n\r\nhello"
_CHUNKED = b"POST / HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: %b\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

DIFFERENCES = (
    Difference(
        "http",
        "an answer without a body is not said to be in chunks; HEAD may leave that out (RFC 9110 section 9.3.2)",
        responses={"head-of-chunks": {"fields": ()}},
    ),
    Difference(
        "http",
        "part of a head counts as an answer, which the request must not be repeated after",
        responses={
            "answer-of-half-a-status-line": {"reason": "upstream-malformed"},
            "answer-of-half-a-field": {"reason": "upstream-malformed"},
            "answer-of-no-empty-line": {"reason": "upstream-malformed"},
        },
    ),
    Difference(
        "mitm",
        "mitmproxy speaks to the upstream in the client's own version",
        {
            "version-1.0": {"reaches": _OLD},
            "version-1.0-kept-alive": {"reaches": _OLD},
            "length-of-an-old-client": {"reaches": _OLD_POST},
        },
    ),
    Difference(
        "mitm",
        "fields that frame a message keep the spelling in which they were accepted",
        {
            "length-in-odd-case": {"reaches": _ODD_LENGTH},
            "chunked-in-upper-case": {"reaches": _CHUNKED % b"CHUNKED"},
            "chunked-in-mixed-case": {"reaches": _CHUNKED % b"cHuNkEd"},
        },
        {"chunked-in-upper-case": {"fields": (b"Transfer-Encoding: CHUNKED",)}},
    ),
    Difference(
        "mitm",
        "mitmproxy itself gives up on a port that is no port, before the policy is asked",
        {
            "target-with-port-65536": {"reason": "request-malformed"},
            "connect-to-port-0": {"reason": "request-malformed"},
        },
    ),
    Difference(
        "mitm",
        "mitmproxy closes the connection of a client whose body breaks when part of it has gone already",
        {"extensions-over-their-limit-together": {"page": False}},
    ),
    Difference(
        "mitm",
        "mitmproxy refuses an answer with two lengths even if they agree",
        responses={"two-lengths-that-agree": {"reason": "upstream-malformed"}},
    ),
    Difference(
        "mitm",
        "mitmproxy has no place for interim answers, nor for trailers, which may be dropped (RFC 9110 section 6.5.1)",
        responses={
            "trailer": {"trailers": ()},
            "continue-then-the-answer": {"interim": ()},
            "continue-then-an-error": {"interim": ()},
            "early-hints-then-the-answer": {"interim": ()},
            "processing-then-the-answer": {"interim": ()},
            "many-interim-answers": {"interim": ()},
        },
    ),
    Difference(
        "mitm",
        "mitmproxy has no page for a flow that is killed: the client's connection ends without one",
        responses={
            "unasked-switch": {"page": False},
            "unasked-switch-to-websocket": {"page": False},
            "switch-behind-an-interim-answer": {"page": False},
        },
    ),
    Difference(
        "mitm",
        "mitmproxy keeps no connection of HTTP/1.0",
        responses={"status-line-of-http-1.0-kept-alive": {"reused": False}},
    ),
)


# Of exchanges that are no rows of data: the lane, what it does, why that is no weaker.
EXCHANGES = {
    ("mitm", "chunks for an old client"): (
        "the upstream was asked in HTTP/1.0 too, so only one that breaks HTTP's rules answers in chunks"
    ),
    ("mitm", "no kept connection for an old client"): "an optimisation that mitmproxy lacks",
    ("mitm", "a closed connection is noticed, not replaced"): (
        "mitmproxy does not ask again: a request that crosses the upstream's close gets 502, and is never sent twice"
    ),
    ("mitm", "torn answers without a length pass as whole"): (
        "mitmproxy does not tell TLS that was torn off from TLS that ended; with a length or chunks it shows"
    ),
}


def differs(lane: str | None, what: str) -> bool:
    """Whether a lane does what stands in the table."""
    assert any(name == what for _, name in EXCHANGES), f"{what} is no difference of the table"
    return (lane, what) in EXCHANGES


def as_carried_by[Case: (RequestCase, ResponseCase)](lane: str | None, case: Case) -> Case:
    """The case as `lane` carries it."""
    for difference in DIFFERENCES:
        changes = difference.requests if isinstance(case, RequestCase) else difference.responses
        if difference.lane == lane and case.name in changes:
            return replace(case, **changes[case.name])
    return case

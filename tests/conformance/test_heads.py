"""The conformance data at the parsers: every row has its outcome already where bytes become values.

What the parsers let through that must be refused is refused by whoever forwards it, which the rows in `LATER` name.
"""

from __future__ import annotations

import pytest
from conformance.cases import (
    HOST,
    Outcome,
    RequestCase,
    ResponseCase,
    Way,
    request_cases,
    response_cases,
)

from egress.gate.naming import Route, name_request
from egress.policy import Host, Refusal
from egress.wire.chunked import ChunkedChecker
from egress.wire.head import (
    Chunked,
    ContentLength,
    Framing,
    NeedMore,
    NoBody,
    Reject,
    RejectKind,
    RequestHead,
    ResponseHead,
    UntilClose,
    parse_request_head,
    parse_response_head,
    response_framing,
)

REQUESTS = request_cases()
RESPONSES = response_cases()
# Judged by the lane from what surrounds the head: what a CONNECT leads to, whether a 101 was asked for,
# how many interim answers are enough.
LATER = {
    "connect-with-another-host",
    "connect-to-port-0",
    "unasked-switch",
    "unasked-switch-to-websocket",
    "switch-behind-an-interim-answer",
    "interim-answers-without-end",
}
ROUTE = Route(Host(HOST), 443, tls=True)


def reason_of(reject: Reject) -> str:
    """The reason code that a reject of a parser becomes."""
    return "limit-head" if reject.kind is RejectKind.TOO_LARGE else "request-malformed"


def read_request(case: RequestCase) -> tuple[Outcome, str]:
    """What the parsers and the naming step say of a request, and the reason if it is refused."""
    head = parse_request_head(case.send)
    if not isinstance(head, RequestHead):
        assert isinstance(head, Reject), "the bytes of a case are complete"
        return Outcome.REFUSED, reason_of(head)
    if head.method != "CONNECT" or case.way is Way.TLS:
        named = name_request(head, "s", ROUTE if case.way is Way.TLS else None)
        if isinstance(named, Refusal):
            return Outcome.REFUSED, named.reason.value
    if isinstance(head.framing, Chunked):
        checker = ChunkedChecker()
        if checker.feed(case.send[head.length :]) is not None or checker.trailers:
            return Outcome.BREAKS, "request-malformed"
        assert checker.complete
        assert checker.consumed == len(case.send) - head.length
    return Outcome.REACHES, ""


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.id)
def test_request_is_read_as_the_data_say(case: RequestCase) -> None:
    """Refused by its head, refused by its body, or well-formed; with the reason that its row has."""
    if case.name in LATER:
        assert read_request(case) == (Outcome.REACHES, "")
    else:
        assert read_request(case) == (case.outcome, case.reason)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.id)
def test_request_is_read_alike_byte_by_byte(case: RequestCase) -> None:
    """No segmentation changes the outcome."""
    whole = parse_request_head(case.send)
    buffer, hint, outcome = bytearray(), None, parse_request_head(b"")
    for start in range(0, len(case.send), 1 if len(case.send) < 2000 else 997):
        buffer += case.send[len(buffer) : start]
        outcome = parse_request_head(buffer, resume=hint)
        if not isinstance(outcome, NeedMore):
            break
        hint = outcome
    else:
        outcome = parse_request_head(case.send, resume=hint)
    assert type(outcome) is type(whole)
    assert not isinstance(whole, RequestHead) or outcome == whole


type Verdict = tuple[str, int, bytes, bytes]
REFUSED: Verdict = ("refused", 0, b"", b"")


def read_response(case: ResponseCase) -> Verdict:
    """What the parsers say of an answer: `passed`, `cut` or `refused`, its status, its data, what is left."""
    data = case.answer
    while True:
        head = parse_response_head(data)
        framing = head if isinstance(head, (NeedMore, Reject)) else response_framing(head, case.method)
        if isinstance(framing, (NeedMore, Reject)):
            return REFUSED
        assert isinstance(head, ResponseHead)
        data = data[head.length :]
        if not head.interim:
            return read_body(framing, head.status, data)


def read_body(framing: Framing | UntilClose, status: int, data: bytes) -> Verdict:
    """Likewise of the body behind a head."""
    match framing:
        case UntilClose():
            return "passed", status, data, b""
        case ContentLength(length):
            return "passed" if length <= len(data) else "cut", status, data[:length], data[length:]
        case Chunked():
            checker = ChunkedChecker()
            whole = checker.feed(data) is None and checker.complete
            body = b"".join(data[start:end] for start, end in checker.spans)
            return "passed" if whole else "cut", status, body, data[checker.consumed :] if whole else b""
        case NoBody():
            return "passed", status, b"", data


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case.id)
def test_response_is_read_as_the_data_say(case: ResponseCase) -> None:
    """Refused, cut where its body breaks, or whole; bytes past its end leave no connection to be used again."""
    verdict, status, body, rest = read_response(case)
    if case.name in LATER:
        assert verdict == ("refused" if case.name == "interim-answers-without-end" else "passed")
        return
    assert verdict == ("refused" if case.reason else "cut" if case.cut else "passed")
    assert (status, body) == (case.status, case.body)
    assert not (rest and case.reused)


def test_data_hold_every_kind_of_case() -> None:
    """No name is given twice, and every outcome is there in number."""
    assert len({case.id for case in REQUESTS}) == len(REQUESTS)
    assert len({case.id for case in RESPONSES}) == len(RESPONSES)
    for outcome in Outcome:
        assert sum(case.outcome is outcome for case in REQUESTS) > 50
    assert sum(bool(case.reason) for case in RESPONSES) > 50
    assert sum(case.cut for case in RESPONSES) > 10

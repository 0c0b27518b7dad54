"""The bypass corpus at head level: what these parsers refuse themselves, and what they must leave to the policy.

Each wire case of HTTP/1 is one of three: refused by its head, refused by its chunked body, or well-formed, in which
case a later step must deny it (or allow it). A case that moves from one to another shows here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from egress.wire.chunked import ChunkedChecker
from egress.wire.client_hello import parse_client_hello
from egress.wire.head import (
    Chunked,
    NeedMore,
    Reject,
    RejectKind,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
    response_framing,
)

CASES = json.loads((Path(__file__).parents[1] / "corpus" / "bypass_cases.json").read_text())
PLACES = {"{P}": "8081", "{S}": "443", "{PROXY}": "3128", "{PUB}": "192.0.2.1", "{PUB2}": "192.0.2.2"}
SENT = {case["id"]: case["spec"]["segments"] for case in CASES if case.get("spec", {}).get("kind") == "h1"}
RETURNED = {
    case["id"]: case["spec"]["response"]
    for case in CASES
    if case["class"] == "h1-framing" and case.get("spec", {}).get("kind") == "upstream"
}


def numbered(prefix: str, *numbers: int) -> set[str]:
    """Name cases of one class."""
    return {f"{prefix}-{number:03}" for number in numbers}


REFUSED_BY_HEAD = (
    numbered("HOSTCANON", 5, 6, 7, 8, 9, 10, 11, 12, 18, 19, 20, 22, 26, 29, 33, 35, 37, 39, 40, 41, 42, 43, 44)
    | numbered("IPLITERAL", 21, 22, 24, 38, 39, 41, 44)
    | numbered("DESTBINDIN", 3, 4, 30)
    | numbered("H1FRAMING", 1, 4, 5, 7, 8, 10, 12, 14, 15, 17, 21, 22, 23, 24, 27, 28, 29, 30)
    | numbered("UPGRADETUN", 10, 11)
    | numbered("RAWPROTOCO", 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15)
    | numbered("PATHRULES", 11, 22)
    | numbered("SECRETINJE", 3)
)
REFUSED_BY_BODY = numbered("H1FRAMING", 32, 33, 34, 35, 36)


def sent(case: str) -> bytes:
    """The bytes of a case, placeholders filled in, all segments joined."""
    text = "".join(SENT[case])
    for place, value in PLACES.items():
        text = text.replace(place, value)
    return text.encode("latin-1")


def test_every_refused_case_is_in_the_corpus() -> None:
    """The lists name nothing that is not there, and together with the well-formed they are all there is."""
    assert set(SENT) >= REFUSED_BY_HEAD | REFUSED_BY_BODY
    assert len(SENT) > len(REFUSED_BY_HEAD | REFUSED_BY_BODY) > 60


@pytest.mark.parametrize("case", SENT)
def test_case_is_refused_where_it_should_be(case: str) -> None:
    """By its head, by its body, or by neither."""
    data = sent(case)
    head = parse_request_head(data)
    assert isinstance(head, Reject if case in REFUSED_BY_HEAD else RequestHead)
    if isinstance(head, RequestHead) and isinstance(head.framing, Chunked):
        refused = ChunkedChecker().feed(data[head.length :]) is not None
        assert refused == (case in REFUSED_BY_BODY)


@pytest.mark.parametrize("case", SENT)
def test_case_comes_out_the_same_however_it_is_segmented(case: str) -> None:
    """One byte at a time gives what all at once gives: sniffing the first segment decides nothing."""
    data = sent(case)
    whole = parse_request_head(data)
    buffer, hint, outcome = bytearray(), None, parse_request_head(b"")
    for byte in data:
        buffer.append(byte)
        outcome = parse_request_head(buffer, resume=hint)
        if not isinstance(outcome, NeedMore):
            break
        hint = outcome
    assert isinstance(outcome, Reject) if isinstance(whole, Reject) else outcome == whole


@pytest.mark.parametrize("case", [case["id"] for case in CASES if case["expected"] == "allow" and case["id"] in SENT])
def test_allowed_case_is_well_formed(case: str) -> None:
    """No positive control of the corpus fails on its head."""
    assert isinstance(parse_request_head(sent(case)), RequestHead)


@pytest.mark.parametrize(
    "case", [case["id"] for case in CASES if case["class"] == "raw-protocol" and case["id"] in SENT]
)
def test_raw_protocol_is_not_tls(case: str) -> None:
    """None of the protocols that are not HTTP is taken for the beginning of TLS either."""
    reject = parse_client_hello(sent(case))
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.NOT_TLS


@pytest.mark.parametrize("case", RETURNED)
def test_upstream_case_leaves_no_doubtful_body(case: str) -> None:
    """A response of the framing class is refused, or has no body, so that what follows it belongs to no message."""
    data = RETURNED[case].encode("latin-1")
    head = parse_response_head(data)
    if isinstance(head, ResponseHead):
        framing = response_framing(head, "GET")
        assert isinstance(framing, Reject) or (head.status, case) == (304, "H1FRAMING-046")
        assert len(data) > head.length
    else:
        assert isinstance(head, Reject)

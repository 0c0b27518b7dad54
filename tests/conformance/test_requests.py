"""The conformance data through a real proxy: what reached the origin, byte for byte, what the client got, the row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from conformance.cases import Outcome, RequestCase, request_cases
from conformance.differences import as_carried_by
from conformance.origin import OK

from egress.policy.reasons import TEXTS, Reason

if TYPE_CHECKING:
    from conformance.client import Answer, Client
    from conformance.origin import Seen
    from conformance.stage import Stage
    from harness.proxy import Row

CASES = request_cases()


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to. `reached`: new bytes by connection of the origin."""

    answer: Answer | None
    after: bytes
    reached: dict[Seen, bytes]
    rows: list[Row]


def play(stage: Stage, case: RequestCase) -> Result:
    """Send the case on a connection of its own, and see what became of it."""
    marks = stage.origin.marks()
    with stage.client(case.way) as client:
        client.send(case.send)
        answer = client.answer(case.send.split(b" ", 1)[0].decode("latin-1"))
        after = end_of(client)
        address = client.address
    return Result(answer, after, stage.origin.since(marks), stage.rows(address))


def end_of(client: Client) -> bytes:
    """Say no more, and read to the end."""
    if not client.ended:
        client.say_no_more()
    return client.rest()


def one_chunk(data: bytes) -> bytes:
    """A recorded request with its chunked body, which a lane may cut anew, written as one chunk."""
    head, end, body = data.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked" not in head:
        return data
    joined = b""
    while match := re.match(rb"([0-9A-Fa-f]+)\r\n", body):
        size = int(match[1], 16)
        chunk, body = body[match.end() : match.end() + size], body[match.end() + size :]
        assert body.startswith(b"\r\n"), f"the origin got a bad chunk: {data!r}"
        joined, body = joined + chunk, body[2:]
        if not size:
            break
    assert not body, f"the origin got more than its body: {data!r}"
    whole = b"%x\r\n%b\r\n" % (len(joined), joined) if joined else b""
    return head + end + whole + b"0\r\n\r\n"


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome is Outcome.REACHES], ids=lambda case: case.id)
def test_request_reaches_the_origin_as_written_by_the_proxy(stage: Stage, case: RequestCase) -> None:
    """Exactly these bytes and no others, on one connection; the client gets the answer, and the audit one row."""
    case = as_carried_by(stage.lane, case)
    result = play(stage, case)
    assert [one_chunk(data) for data in result.reached.values()] == [case.reaches]
    assert result.answer is not None
    assert (result.answer.status, result.after) == (200, b"")
    assert result.answer.body == (b"" if case.send.startswith(b"HEAD") else OK[-2:])
    (row,) = result.rows
    assert (row["verdict"], row["status"], row["error"], row["lane"]) == ("allow", 200, None, stage.lane)


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome is Outcome.REFUSED], ids=lambda case: case.id)
def test_request_is_refused_before_the_origin_hears_of_it(stage: Stage, case: RequestCase) -> None:
    """One page with the reason, one row with it, nothing behind; the origin gets no byte and no connection."""
    case = as_carried_by(stage.lane, case)
    result = play(stage, case)
    assert not result.reached
    assert result.answer is not None
    assert result.answer.reason == case.reason
    assert result.answer.status == TEXTS[Reason(case.reason)].status
    assert result.after == b""
    (row,) = result.rows
    assert (row["verdict"], row["reason"]) == ("deny", case.reason)


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome is Outcome.BREAKS], ids=lambda case: case.id)
def test_request_with_a_broken_body_is_never_a_whole_one(stage: Stage, case: RequestCase) -> None:
    """The client gets one page; if the origin got the head, its connection ends before the body does."""
    case = as_carried_by(stage.lane, case)
    result = play(stage, case)
    assert result.answer is not None or not case.page
    if result.answer is not None:
        assert (result.answer.reason, result.after) == (case.reason, b"")
        assert result.answer.status == TEXTS[Reason(case.reason)].status
    for seen, data in result.reached.items():
        assert seen.ended.wait(5), "the origin's connection is left open within a request"
        assert not data.endswith(b"0\r\n\r\n")
        assert b"smuggled" not in data
        assert b"canary" not in data
    (row,) = result.rows
    assert row["verdict"] == "deny" or row["error"]
    if result.answer is not None:
        assert case.reason in {row["reason"], str(row["error"]).split(":")[0]}

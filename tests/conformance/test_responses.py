"""The conformance data of answers through a real proxy: what the client got, and whether anything of it came later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from conformance.cases import HOST, ResponseCase, Way, response_cases
from conformance.differences import as_carried_by
from conformance.origin import answering

from egress.policy.reasons import TEXTS, Reason

if TYPE_CHECKING:
    from conformance.client import Answer
    from conformance.stage import Stage
    from harness.proxy import Row

CASES = response_cases()
CANARY = b"canary"
FRAMING = (b"content-length:", b"transfer-encoding:")


@dataclass(frozen=True, slots=True)
class Result:
    """What the client got for the case's request, and for the one after it on the same connection (None: it ended).

    `shared`: whether the origin got both on one connection.
    """

    interim: tuple[int, ...]
    answer: Answer | None
    after: Answer | None
    received: bytes
    shared: bool
    row: Row


def play(stage: Stage, case: ResponseCase) -> Result:
    """Ask, get the case's answer, then ask for something else."""
    marks = stage.origin.marks()
    interim: list[int] = []
    after = None
    with stage.origin.scripted(answering(case.answer, close=case.close)), stage.client(Way.TLS) as client:
        client.send(f"{case.method} /case HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        while (answer := client.answer(case.method)) is not None and answer.status < 200 and answer.status != 101:
            interim.append(answer.status)
        if answer is not None and answer.whole and not answer.closed:
            client.send(f"GET /after HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            after = client.answer()
        if not client.ended:
            client.say_no_more()
        client.rest()
        received, address = bytes(client.received), client.address
    shared = any(b" /case " in data and b" /after " in data for data in stage.origin.since(marks).values())
    return Result(tuple(interim), answer, after, received, shared, stage.rows(address)[0])


def fields_of(answer: Answer, *, framed: bool) -> tuple[bytes, ...]:
    """The fields of an answer without what says whether the client's connection goes on."""
    rows = [field for field in answer.fields if field.lower() not in (b"connection: close", b"connection: keep-alive")]
    return tuple(row for row in rows if framed or not row.lower().startswith(FRAMING))


def check_passed(case: ResponseCase, result: Result) -> None:
    """Status, fields, body and trailers as the data say; bytes past its end belong to no other answer."""
    assert result.answer is not None
    assert (result.answer.status, result.answer.body, result.answer.whole) == (case.status, case.body, True)
    assert fields_of(result.answer, framed=not case.any_framing) == case.fields
    assert (result.answer.trailers, result.interim) == (case.trailers, case.interim)
    assert result.shared == case.reused
    assert (result.row["verdict"], result.row["status"], result.row["error"]) == ("allow", case.status, None)


def check_page(case: ResponseCase, result: Result) -> None:
    """The page is ours, and the outcome in the audit says the same."""
    assert (result.answer is not None) == case.page
    if result.answer is not None:
        assert result.answer.reason == case.reason
        assert (result.answer.status, result.answer.whole) == (TEXTS[Reason(case.reason)].status, True)
    assert not result.shared
    assert str(result.row["error"]).split(":")[0] == case.reason


def check_cut(case: ResponseCase, result: Result) -> None:
    """The client's connection breaks off with the answer, or the client gets a page of ours instead."""
    assert not result.shared
    assert result.row["error"]
    if result.answer is not None and result.answer.reason is None:
        assert not result.answer.whole
        assert (result.answer.status, result.after) == (case.status, None)
        assert case.body.startswith(result.answer.body)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_answer_becomes_what_the_data_say(stage: Stage, case: ResponseCase) -> None:
    """Passed on, or a page of ours, or broken off; never a byte of what is malformed, nor one answer for another."""
    case = as_carried_by(stage.lane, case)
    result = play(stage, case)
    check = check_page if case.reason else check_cut if case.cut else check_passed
    check(case, result)
    assert CANARY not in result.received
    assert result.after is None or (result.after.status, result.after.body) == (200, b"ok")

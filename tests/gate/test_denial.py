"""The page of a denial: readable, recognisably ours, and without a byte of the wire."""

from __future__ import annotations

import json

import pytest

from egress.gate.denial import DECISION_HEADER, Denial
from egress.policy import TEXTS, Reason, RuleRef, Scope, Verdict

RULE = RuleRef(Scope.SANDBOX, "/etc/egress/private/policy.yaml", 12, "never delete")
DENIALS = [reason for reason in Reason if TEXTS[reason].status >= 400]


def page(denial: Denial) -> dict[str, object]:
    """The page's object, taken from the whole response."""
    head, _, body = denial.http1().partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    return json.loads(body)


@pytest.mark.parametrize("reason", DENIALS)
def test_a_denial_is_a_problem_of_rfc_9457(reason: Reason) -> None:
    """Type, title, status and detail, and our own members for reason and decision."""
    problem = page(Denial("id1", reason, host="api.test", port=443))
    text = TEXTS[reason]
    assert problem["type"] == f"urn:egress:reason:{reason.value}"
    assert problem["title"] == f"egress: {text.title}"
    assert problem["status"] == text.status
    assert problem["detail"] == text.sentence
    assert (problem["reason"], problem["decision"], problem["destination"]) == (reason.value, "id1", "api.test:443")
    assert problem.get("hint", "") == text.hint


@pytest.mark.parametrize("verdict", [Verdict.DENY, Verdict.ASK])
def test_the_decision_header_carries_verdict_reason_and_id(verdict: Verdict) -> None:
    """One header that a program can read."""
    denial = Denial("id1", Reason.RULE_DENY, verdict=verdict)
    fields = dict(denial.headers(length=7))
    assert fields[DECISION_HEADER.encode()] == f"{verdict.value}; reason=rule-deny; id=id1".encode()
    assert fields[b"Content-Type"] == b"application/problem+json"
    assert fields[b"Cache-Control"] == b"no-store"
    assert fields[b"Content-Length"] == b"7"


def test_the_status_line_says_it_too() -> None:
    """Clients that show nothing but the phrase of a refused CONNECT still show the reason and the id."""
    assert Denial("id1", Reason.HOST_NOT_ALLOWED).http1().startswith(b"HTTP/1.1 403 egress: host-not-allowed (id1)\r\n")


def test_a_page_names_the_rule_and_its_file_but_not_the_folder() -> None:
    """Where policies live is not the sandbox's business."""
    denial = Denial("id1", Reason.RULE_DENY, rule=RULE)
    assert page(denial)["rule"] == "never delete (policy.yaml:12)"
    assert b"/etc" not in denial.http1()


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (RuleRef(Scope.ORG, "org.yaml", None), "rule (org.yaml)"),
        (RuleRef(Scope.ORG, "org.yaml", 3), "rule (org.yaml:3)"),
    ],
)
def test_a_rule_without_name_or_line_is_told_as_far_as_it_is_known(rule: RuleRef, told: str) -> None:
    """Nothing is made up."""
    assert page(Denial("id1", Reason.RULE_DENY, rule=rule))["rule"] == told


def test_an_ipv6_destination_stands_in_brackets() -> None:
    """As it would in a URL."""
    assert page(Denial("id1", Reason.RULE_DENY, host="2001:db8::1", port=443))["destination"] == "[2001:db8::1]:443"


def test_what_is_not_known_is_left_out() -> None:
    """No destination, no rule: no empty members."""
    assert set(page(Denial("id1", Reason.RULE_DENY))) == {
        "type", "title", "status", "detail", "reason", "decision", "hint",
    }  # fmt: skip


def test_a_page_for_head_has_the_length_and_no_body() -> None:
    """The header says how long the page would be; a client must not wait for it."""
    denial = Denial("id1", Reason.RULE_DENY)
    whole, head = denial.http1(), denial.http1(head_only=True)
    assert head.endswith(b"\r\n\r\n")
    assert whole == head + denial.body()


def test_a_page_that_is_sent_raw_closes_the_connection() -> None:
    """After bytes that could not be read, what follows has no meaning."""
    assert b"\r\nConnection: close\r\n" in Denial("id1", Reason.REQUEST_MALFORMED).http1()


@pytest.mark.parametrize("hostile", ["a\r\nX: y", 'a"b', "a\x1b[31m", "ünï", "<script>"])
def test_a_detail_cannot_break_out_of_the_page(hostile: str) -> None:
    """JSON escapes everything but printable ASCII, and the head holds no detail at all."""
    denial = Denial("id1", Reason.RULE_DENY, hostile)
    assert page(denial)["detail"] == hostile
    head, _, body = denial.http1().partition(b"\r\n\r\n")
    assert b"X: y" not in head
    assert all(32 <= byte < 127 or byte == 10 for byte in body)
    assert body.endswith(b"}\n")

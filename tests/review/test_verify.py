"""Cases: what passes, what fails, and what a failure says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from egress.config import Case, LoadedPolicy, PolicySource, load_policy
from egress.errors import Problem
from egress.policy import Lane, Reason, Scope, Verdict
from egress.review import FileResult, results_json, verify
from egress.review.junit import junit_text

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
version: 1
secrets:
  key: {env: KEY, hosts: [api.example.com]}
rules:
  - name: model API
    allow: api.example.com
    methods: [POST]
    inject: {x-api-key: "${key}"}
  - ask: ask.example.com
  - name: for a while
    allow: wiki.example.com
    until: 2030-01-01T00:00:00Z
"""
BEFORE, AT = datetime(2029, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedPolicy:
    """The policy above."""
    (tmp_path / "policies").mkdir()
    path = tmp_path / "policies" / "policy.yaml"
    path.write_text(POLICY)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def case(url: str, expect: str, method: str | None = None, **stated: object) -> Case:
    """A case on line 3 of cases.yaml."""
    asked = url if method is None else f"{method} {url}"
    return Case("cases.yaml", 3, asked, method, url, Verdict(expect), **stated)  # type: ignore[arg-type]


API = "https://api.example.com/v1"

PASSING = [
    case(API, "allow", "POST"),
    case(API, "allow", "POST", rule="model API", lane=Lane.HTTP, inject=frozenset({"x-api-key"})),
    case(API, "allow", "POST", rule="policy.yaml:5"),
    case(API, "allow", "POST", rule="policies/policy.yaml:5"),
    case(API, "deny", "GET", reason=Reason.METHOD_NOT_ALLOWED, inject=frozenset()),
    case(API, "deny", "POST", addresses=("10.1.2.3",), reason=Reason.ADDRESS_NOT_PUBLIC),
    case(API, "deny", "POST", headers=("X-HTTP-Method-Override: GET",), reason=Reason.OVERRIDE_HEADER),
    case("https://ask.example.com/", "ask"),
    case("https://wiki.example.com/", "allow", at=BEFORE),
    case("https://wiki.example.com/", "deny", at=AT, reason=Reason.RULE_EXPIRED),
    case("https://wiki.example.com/", "deny", at=AT.astimezone(timezone(timedelta(hours=2)))),
    case(API, "allow", "POST", at=AT),
    case("https://a..example.com/", "deny", reason=Reason.HOST_INVALID),
]


@pytest.mark.parametrize("one", PASSING, ids=str)
def test_case_that_says_what_the_policy_says_passes(loaded: LoadedPolicy, one: Case) -> None:
    """Verdict, and whatever else is stated."""
    assert verify(one, loaded).mismatches == ()


def test_cases_of_one_moment_share_one_policy(loaded: LoadedPolicy, tmp_path: Path) -> None:
    """A hundred cases compile no hundred policies, and a policy without `until` none at all."""
    assert loaded.as_of(AT) is loaded.as_of(AT)
    assert loaded.as_of(AT) is not loaded.as_of(BEFORE)
    path = tmp_path / "lasting.yaml"
    path.write_text("version: 1\nrules: [{allow: a.example.com}]\n")
    lasting = load_policy([PolicySource(Scope.SANDBOX, path)])
    assert lasting.as_of(AT) is lasting


FAILING = [
    (case(API, "deny", "POST"), [("verdict", "deny", "allow")]),
    (case("https://ask.example.com/", "deny"), [("verdict", "deny", "ask")]),
    (case(API, "deny", "GET", reason=Reason.RULE_DENY), [("reason", "rule-deny", "method-not-allowed")]),
    (case(API, "allow", "POST", lane=Lane.TUNNEL), [("lane", "tunnel", "http")]),
    (case(API, "allow", "POST", inject=frozenset()), [("inject", "none", "x-api-key")]),
    (case("https://x.test/", "deny", rule="model API"), [("rule", "model API", "none")]),
    (case("https://x.test/", "deny", lane=Lane.HTTP), [("lane", "http", "none")]),
    (
        case(API, "deny", "POST", lane=Lane.MITM, inject=frozenset({"a", "b"})),
        [("verdict", "deny", "allow"), ("inject", "a, b", "x-api-key"), ("lane", "mitm", "http")],
    ),
]


@pytest.mark.parametrize(("one", "expected"), FAILING, ids=str)
def test_failure_says_expected_and_found(loaded: LoadedPolicy, one: Case, expected: list[tuple[str, str, str]]) -> None:
    """Each thing that differs, not only the first."""
    result = verify(one, loaded)
    assert [(each.what, each.expected, each.found) for each in result.mismatches] == expected
    assert not result.passed


@pytest.mark.parametrize("rule", ["olicy.yaml:5", "policy.yaml:50", "model", "5"])
def test_part_of_a_rule_is_not_that_rule(loaded: LoadedPolicy, rule: str) -> None:
    """A place is compared by whole parts of its path."""
    (mismatch,) = verify(case(API, "allow", "POST", rule=rule), loaded).mismatches
    assert mismatch.found.startswith("model API, ")
    assert mismatch.found.endswith("/policy.yaml:5, scope sandbox")


@pytest.mark.parametrize("url", ["https://a..example.com/", "https://api.example.com\\x", "htps://api.example.com/"])
def test_unreadable_request_does_not_pass_as_denied(loaded: LoadedPolicy, url: str) -> None:
    """A spelling mistake in the URL is denied by every policy, so the case would test nothing."""
    (mismatch,) = verify(case(url, "deny"), loaded).mismatches
    assert (mismatch.what, mismatch.expected) == ("request", "one that can be read")


def test_telling_is_one_line_with_reason_and_rule(loaded: LoadedPolicy) -> None:
    """As explain would tell it, in short."""
    telling = verify(case(API, "allow", "GET"), loaded).telling
    assert telling.startswith(
        "deny, method-not-allowed: A rule allows `api.example.com`, but not with GET. [model API, "
    )
    assert "\n" not in telling


def test_junit_counts_and_is_xml_whatever_the_texts_hold(loaded: LoadedPolicy) -> None:
    """A suite a file; what XML cannot write is escaped."""
    hostile = case('https://x.test/\x00\x1b]&<>"\ufffe\ud800', "allow")
    files = [
        FileResult("a.yaml", (verify(case(API, "allow", "POST"), loaded), verify(hostile, loaded))),
        FileResult("b.yaml", problems=(Problem("b.yaml", 4, "cases[0]", "unknown key"),)),
    ]
    root = ET.fromstring(junit_text(files).encode())  # noqa: S314 -- our own
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    first, second = root.findall("testsuite")
    assert [(one.get("line"), one.find("failure") is None) for one in first] == [("3", True), ("3", False)]
    assert first[1].find("failure").get("message").startswith("cases.yaml:3: verdict: expected allow, found deny")  # type: ignore[union-attr]
    assert second.find("testcase/error").text == "b.yaml:4: cases[0]: unknown key"  # type: ignore[union-attr]


def test_json_has_every_case_with_its_answer(loaded: LoadedPolicy) -> None:
    """The same as explain's JSON, in each case."""
    result = verify(case(API, "allow", "GET"), loaded)
    values = json.loads(json.dumps(results_json([FileResult("a.yaml", (result,))])))
    assert (values["cases"], values["failed"]) == (1, 1)
    (told,) = values["files"][0]["cases"]
    assert told["mismatches"] == [{"what": "verdict", "expected": "allow", "found": "deny"}]
    assert told["answer"]["reason"] == "method-not-allowed"

"""Bodies in questions: what the guide says of them is what `explain`, a case, and a JSON line answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from egress.config import LoadedPolicy, PolicySource, load_policy, read_cases
from egress.policy import Reason, Scope
from egress.review import explain, make_question, read_question
from egress.review.diff import compare
from egress.review.show import effective
from egress.review.verify import verify

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "policy.md").read_text()
SECTION = GUIDE.split("## Bodies")[1].split("\n## ")[0]
(EXAMPLE,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
ROWS = re.findall(r"^\| `([\[{].*[\]}])` \| `([a-z-]+)` \|$", SECTION, re.MULTILINE)


def load(folder: Path, text: str = EXAMPLE) -> LoadedPolicy:
    """A policy from its text."""
    path = folder / "policy.yaml"
    path.write_text(text)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def url_of(body: str) -> str:
    """Where the guide's example takes such a body."""
    return "https://mcp.example.com/mcp" if "jsonrpc" in body else "https://api.example.com/graphql"


def test_the_guide_has_bodies() -> None:
    """Else the tests below would test nothing."""
    assert len(ROWS) == 8


@pytest.mark.parametrize(("body", "reason"), ROWS)
def test_the_guides_bodies_are_answered_as_it_says(tmp_path: Path, body: str, reason: str) -> None:
    """On a command line and as a JSON line."""
    loaded = load(tmp_path)
    asked = make_question(url_of(body), method="POST", sandbox=None, headers=(), addresses=(), body=body.encode())
    line = read_question(json.dumps({"url": url_of(body), "method": "POST", "body": body}).encode())
    assert [explain(question, loaded).reason for question in (asked, line)] == [Reason(reason)] * 2


@pytest.mark.parametrize(
    ("method", "reason"), [("GET", "rule-allow"), ("DELETE", "rule-allow"), ("POST", "body-unreadable")]
)
def test_a_request_without_a_body(tmp_path: Path, method: str, reason: str) -> None:
    """Is answered by the rules that ask for none; where one asks, the answer says how to give it."""
    asked = make_question("https://mcp.example.com/mcp", method=method, sandbox=None, headers=(), addresses=())
    answer = explain(asked, load(tmp_path))
    assert answer.reason == reason
    assert any("--body" in note for note in answer.notes) is (reason == "body-unreadable")


def test_cases_have_bodies(tmp_path: Path) -> None:
    """As text, or as the mapping that becomes JSON."""
    path = tmp_path / "cases.yaml"
    path.write_text(
        """
cases:
  - request: POST https://api.example.com/graphql
    body: {query: "{ issues { title } }"}
    expect: allow
  - request: POST https://api.example.com/graphql
    body: '{"query": "mutation { a }"}'
    expect: deny
    reason: body-not-allowed
  - request: POST https://api.example.com/graphql
    headers: {Content-Encoding: gzip}
    body: {query: "{ a }"}
    expect: deny
    reason: body-unreadable
"""
    )
    loaded = load(tmp_path)
    assert [verify(case, loaded).mismatches for case in read_cases(path).cases] == [()] * 3


def test_a_condition_on_the_body_is_shown_as_it_is_written(tmp_path: Path) -> None:
    """What it does not state is not there."""
    assert '"graphql": {"operations": ["query"]}' in json.dumps(effective(load(tmp_path)))


def test_a_wider_condition_is_a_difference(tmp_path: Path) -> None:
    """Told with a request that shows it, and as it is written."""
    old = load(tmp_path)
    found = compare(old, load(tmp_path, EXAMPLE.replace("operations: [query]", "operations: [query, mutation]")))
    assert not found.same
    assert "asking for mutation" in json.dumps(found.as_json())
    assert any("`graphql` differs" in sentence for sentence in found.written)
    assert compare(old, load(tmp_path)).same

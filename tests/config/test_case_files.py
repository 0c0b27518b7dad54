"""Files of cases: what they say, and what they say wrong, with lines."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from egress.config import Case, read_cases
from egress.errors import ConfigError
from egress.policy import Lane, Reason, Scope, Verdict

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """\
policy: [org=base.yaml, ../policy.yaml, starter]
cases:
  - name: all of it
    request: POST https://api.example.com/v1?q=1
    headers: {Accept: text/html, X-Team: [a, b]}
    sandbox: ci
    at: 2026-12-31T18:00:00+02:00
    address: [10.1.2.3, "::1"]
    expect: allow
    reason: rule-allow
    rule: model API
    inject: [X-Api-Key]
    lane: http
  - {request: api.example.com:443, expect: ask, inject: []}
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    """What reading the text says, without the path before it."""
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_cases(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_everything_that_a_case_can_say(tmp_path: Path) -> None:
    """Every key, and the line of each case; paths from the folder of the file."""
    path = tmp_path / "cases.yaml"
    path.write_text(WHOLE)
    found = read_cases(path)
    assert [(source.scope, source.path.name) for source in found.policies] == [
        (Scope.ORG, "base.yaml"),
        (Scope.SANDBOX, "policy.yaml"),
        (Scope.SANDBOX, "starter.yaml"),
    ]
    assert [source.path.parent for source in found.policies[:2]] == [tmp_path, tmp_path / ".."]
    assert found.policies[2].path.is_file()
    assert found.cases == (
        Case(
            file=str(path),
            line=3,
            request="POST https://api.example.com/v1?q=1",
            method="POST",
            url="https://api.example.com/v1?q=1",
            expect=Verdict.ALLOW,
            name="all of it",
            headers=("Accept: text/html", "X-Team: a", "X-Team: b"),
            sandbox="ci",
            addresses=("10.1.2.3", "::1"),
            reason=Reason.RULE_ALLOW,
            rule="model API",
            inject=frozenset({"x-api-key"}),
            lane=Lane.HTTP,
            at=datetime(2026, 12, 31, 16, tzinfo=UTC),
        ),
        Case(str(path), 14, "api.example.com:443", None, "api.example.com:443", Verdict.ASK, inject=frozenset()),
    )


CASE = "cases:\n  - {request: GET https://a.test/, expect: deny%s}\n"

WRONG = [
    ("", "1: the file is empty, start with `policy: policy.yaml`, then `cases:`"),
    (
        "- a\n",
        "1: the top of the file should be a mapping of keys, not a list, start with `policy: policy.yaml`, then `cases:`",
    ),
    (
        "policy: starter\n",
        "1: `cases` is missing, write `cases:`, and under it `- {request: GET https://api.example.com/, expect: deny}`",
    ),
    (
        "cases: []\n",
        "1: cases: should be a list of cases, not an empty one, write `cases:`, and under it `- {request: GET https://api.example.com/, expect: deny}`",
    ),
    (
        "cases: 1\n",
        "1: cases: should be a list of cases, not a number, write `cases:`, and under it `- {request: GET https://api.example.com/, expect: deny}`",
    ),
    (
        CASE % ", at: 2026-12-31",
        "2: cases[0].at: `2026-12-31` is not a date and time with an offset, write `2026-12-31T18:00:00Z`",
    ),
    ("cases:\n  - GET\n", "2: cases[0]: should be a mapping of keys, not text"),
    ("polcy: starter\n" + CASE % "", "1: polcy: unknown key, did you mean `policy`?"),
    (
        "policy: strater\n" + CASE % "",
        "1: policy: no shipped policy has this name, did you mean `starter`? The shipped policies are ",
    ),
    (
        "policy: [starter, boss=a.yaml]\n" + CASE % "",
        "1: policy[1]: unknown scope `boss`, write `org`, `sandbox`, `session` or `team`",
    ),
    (CASE % ", reasn: rule-deny", "2: cases[0].reasn: unknown key, did you mean `reason`?"),
    (CASE % ", reason: rule-denied", "2: cases[0].reason: unknown word `rule-denied`, did you mean `rule-deny`?"),
    (CASE % ", reason: 3", "2: cases[0].reason: unknown word a number"),
    (CASE % ", lane: fast", "2: cases[0].lane: unknown word `fast`, write `http`, `mitm` or `tunnel`"),
    (
        CASE % ", address: nowhere",
        "2: cases[0].address: `nowhere` is not an IP address, write what the name resolves to, as in `10.1.2.3`",
    ),
    (CASE % ", headers: [a]", "2: cases[0].headers: should be a mapping, not a list, write `{Accept: text/html}`"),
    (
        CASE % ', headers: {"a:b": c}',
        "2: cases[0].headers: `a:b` is not a header name, write letters, digits and `-`, as in `Accept`",
    ),
    (CASE % ", rule: ", "2: cases[0].rule: nothing stands after this key, give it a value, or remove it"),
    ("cases:\n  - {request: GET https://a.test/}\n", "2: cases[0]: `expect` is missing, write `expect: ...`"),
    ("cases:\n  - {expect: deny}\n", "2: cases[0]: `request` is missing, write `request: ...`"),
    (
        "cases:\n  - {request: GET, expect: deny}\n",
        "2: cases[0].request: `GET` is not a request, write `GET https://api.example.com/path`",
    ),
    (
        "cases:\n  - {request: '', expect: deny}\n",
        "2: cases[0].request: empty text is not a request, write `GET https://api.example.com/path`",
    ),
    (
        "cases:\n  - {request: GET https://a.test/ x, expect: deny}\n",
        "2: cases[0].request: `GET https://a.test/ x` is not a request, write `GET https://api.example.com/path`",
    ),
    (
        "cases:\n  - {request: 'https://a.test/', expect: denied}\n",
        "2: cases[0].expect: unknown word `denied`, did you mean `deny`?",
    ),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_what_is_wrong_is_told_with_line_and_what_to_write(tmp_path: Path, text: str, expected: str) -> None:
    """One mistake, one problem; never a file that is used in part."""
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(expected)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """By line, over the whole file."""
    text = "policy: nowhere\ncases:\n  - {request: GET https://a.test/}\n  - {request: 1, expect: deny}\n"
    assert [problem.split(":")[0] for problem in problems(tmp_path, text)] == ["1", "3", "4"]


def test_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A path that leads nowhere, with the path."""
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_cases(tmp_path / "none.yaml")

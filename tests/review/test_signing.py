"""A signature in what is told of a policy: explained, shown, linted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from egress.cli.main import app
from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.policy import Scope
from egress.review import Question, explain
from egress.review.convert.outgoing import unsaid
from egress.review.spelling import signing_values

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """version: 1
secrets:
  aws: {env: AWS, hosts: [s3.corp.example, "*.wild.example"]}
rules:
  - {name: both, allow: [s3.corp.example, other.example], sign: {sigv4: aws, region: eu-west-1}}
  - {name: wild, allow: "*.wild.example", sign: {sigv4: aws}}
  - name: hook
    allow: a.wild.example
    sign:
      hmac: {secret: aws, message: "$${method}\\n${body}", header: X-Sign, encoding: base64, also: {X-T: "${nonce}"}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The policy as a file."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def loaded(path: Path) -> LoadedPolicy:
    """The policy."""
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def test_an_answer_says_how_a_request_is_signed(loaded: LoadedPolicy, path: Path) -> None:
    """As JSON and for people: the secret's name, the scheme, what it is signed for."""
    answer = explain(Question("https://s3.corp.example/key"), loaded).as_json()
    assert answer["sign"] == {"sigv4": "aws", "region": "eu-west-1"}
    told = CliRunner().invoke(app, ["explain", "https://s3.corp.example/key", "--policy", str(path)]).stdout
    assert "signed with    aws (sigv4, eu-west-1/the client's service)" in told


def test_a_host_that_the_secret_is_not_bound_to_is_told_without_a_signature(loaded: LoadedPolicy) -> None:
    """The headers that a signature sets are taken away."""
    answer = explain(Question("https://other.example/key"), loaded).as_json()
    assert answer["sign"] is None
    assert "Authorization" in answer["headers"]["remove"]  # type: ignore[index, call-overload]
    assert any("the secret `aws` is not bound" in note for note in answer["notes"])  # type: ignore[union-attr]


def test_plain_http_is_refused(loaded: LoadedPolicy) -> None:
    """INVARIANT secret-confinement: a signature in the clear can be sent again by whoever sees it."""
    assert explain(Question("http://s3.corp.example/key"), loaded).reason.value == "credential-insecure"


def test_a_rule_is_shown_as_it_was_written(loaded: LoadedPolicy) -> None:
    """What is not stated is left out; what is, can be copied back."""
    (scope,) = loaded.policy.scopes
    assert [signing_values(rule.sign) for rule in scope.rules] == [
        {"sigv4": "aws", "region": "eu-west-1"},
        {"sigv4": "aws"},
        {
            "hmac": {
                "secret": "aws",
                "message": "$${method}\n${body}",
                "header": "X-Sign",
                "encoding": "base64",
                "also": {"X-T": "${nonce}"},
            }
        },
    ]


def test_a_secret_that_signs_for_a_wildcard_is_told(path: Path) -> None:
    """As one that is injected."""
    found = CliRunner().invoke(app, ["policy", "check", str(path)]).stdout
    assert "W301" in found
    assert "the secret `aws` goes to every host that `*.wild.example` names" in " ".join(found.split())


def test_no_other_tools_list_says_a_signature(loaded: LoadedPolicy) -> None:
    """A conversion that drops it tells so."""
    (scope,) = loaded.policy.scopes
    assert all("`sign`" in unsaid(rule) for rule in scope.rules)

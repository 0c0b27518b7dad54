"""A rule's limits, from the file to the policy core and back to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import PolicySource, bytes_text, load_policy, rate_text
from egress.config.limit_fields import byte_rate, request_rate
from egress.policy import Rate, RuleLimits, Scope
from egress.review import effective, explain
from egress.review.question import Question

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import LoadedPolicy

TEXT = """
version: 1
rules:
  - name: model API
    allow: api.model.example
    limits: {requests: 10/s, burst: 20, concurrent: 4, upload: 1GB/day, download: 512KiB/min}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedPolicy:
    """A policy with limits."""
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def test_limits_are_read(loaded: LoadedPolicy) -> None:
    """Sizes in bytes, times in seconds."""
    (scope,) = loaded.policy.scopes
    assert scope.rules[0].limits == RuleLimits(
        Rate(10, 1), burst=20, concurrent=4, upload=Rate(10**9, 86_400), download=Rate(512 * 1024, 60)
    )


SPELT = {"requests": "10/s", "burst": 20, "concurrent": 4, "upload": "1GB/day", "download": "512KiB/min"}


def test_policy_show_has_them(loaded: LoadedPolicy) -> None:
    """As the file writes them."""
    (scope,) = effective(loaded)["scopes"]  # type: ignore[misc]
    assert scope["rules"][0]["limits"] == SPELT  # type: ignore[index]


def test_explain_has_them(loaded: LoadedPolicy) -> None:
    """Those that hold for the request."""
    answer = explain(Question("https://api.model.example/v1"), loaded)
    assert answer.as_json()["limits"] == [SPELT]


@pytest.mark.parametrize("text", ["1/s", "10/min", "1000/h", "5000/day"])
def test_a_rate_is_spelt_as_it_was_written(text: str) -> None:
    """There and back."""
    assert rate_text(request_rate(text)) == text


@pytest.mark.parametrize("text", ["1B/s", "999B/min", "64KiB/h", "1KB/day", "3MiB/s", "5TB/day", "1500MB/h"])
def test_bytes_are_spelt_as_they_were_written(text: str) -> None:
    """There and back."""
    assert bytes_text(byte_rate(text)) == text

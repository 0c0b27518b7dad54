"""Lint and long lists: the work grows as the list does, and what it finds is what it finds in short ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.policy import Scope
from egress.review.lint import lint
from egress.review.lint.order import fates

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def policy(tmp_path: Path, size: int, form: str, rules: str) -> LoadedPolicy:
    """A policy with a list of this size; `{}` and `{dots}` stand for numbers."""
    (tmp_path / "list.txt").write_text(
        "".join(
            form.format(number, dots=f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}") + "\n"
            for number in range(size)
        )
    )
    (tmp_path / "policy.yaml").write_text(f"version: 1\ndefault: deny\nrules:\n{rules}")
    return load_policy([PolicySource(Scope.SANDBOX, tmp_path / "policy.yaml")])


@pytest.mark.parametrize("form", ["host{}.example.com", ".host{}.example.com", "11.{dots}"])
def test_lint_of_a_list_takes_no_more_than_its_share(tmp_path: Path, form: str) -> None:
    """Ten times the list, ten times the time, with room for a busy machine; each with each would be a hundred."""
    rules = "- deny: {file: list.txt}\n- allow: {file: list.txt}\n"

    def seconds(loaded: LoadedPolicy) -> float:
        start = time.process_time()
        lint(loaded, now=NOW)
        return time.process_time() - start

    small, large = (policy(tmp_path, size, form, rules) for size in (1_000, 10_000))
    assert min(seconds(large) for _ in range(3)) < 30 * min(seconds(small) for _ in range(5))


@pytest.mark.parametrize("form", ["host{}.example.com", "*.host{}.example.com", "11.{dots}", "11.{dots}/32"])
def test_a_list_behind_another_of_the_same_is_still_found_unreachable(tmp_path: Path, form: str) -> None:
    """The second rule never speaks, whatever the size of the list."""
    found = [
        {finding.code for finding in lint(policy(tmp_path, size, form, "- deny: {file: list.txt}\n" * 2), now=NOW)}
        for size in (3, 3_000)
    ]
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("a.test\na.test\n", True),
        ("*.a.test\nb.a.test\n", True),
        (".a.test\n*.a.test\n", True),
        ("*.a.test\n.a.test\n", False),
        ("b.a.test\n*.a.test\n", False),
        ("a.test:443\na.test:80\n", False),
        ("10.0.0.1\n10.0.0.1/32\n", True),
        ("10.0.0.1\n10.0.0.2\n", False),
    ],
)
def test_a_target_that_its_own_list_names_already_is_told(tmp_path: Path, text: str, repeated: bool) -> None:  # noqa: FBT001 -- a column
    """By itself or by a wildcard before it, on the same port."""
    (tmp_path / "list.txt").write_text(text)
    (tmp_path / "policy.yaml").write_text("version: 1\ndefault: allow\nrules:\n- deny: {file: list.txt}\n")
    loaded = load_policy([PolicySource(Scope.SANDBOX, tmp_path / "policy.yaml")])
    (fate,) = fates(loaded.policy.scopes)
    assert bool(fate.repeated) is repeated

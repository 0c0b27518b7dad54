"""Swaps, Basic and narrower bindings are shown as they are written, told as credentials, and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.policy import Host, Protocol, Request, Scope
from egress.review import Kind, compare, judge
from egress.review.spelling import rule_values

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
version: 1
secrets:
  key: {env: KEY, hosts: [a.test], placeholder: key-egress-0123456789}
rules:
  - allow: a.test
    paths: [/login]
    inject: {Authorization: {basic: {user: git, password: "${key}"}}}
    swap: {secret: key, headers: [X-Key], in: [body, query], require: true}
    strip_own: true
"""


def written(tmp_path: Path, text: str, name: str = "policy.yaml") -> LoadedPolicy:
    """A policy from its text."""
    path = tmp_path / name
    path.write_text(text)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def test_they_are_shown_as_a_file_writes_them(tmp_path: Path) -> None:
    """What `show` prints could be put into a file again."""
    (scope,) = written(tmp_path, WHOLE).policy.scopes
    shown = rule_values(scope.rules[0])
    assert shown["inject"] == {"Authorization": {"basic": {"user": "git", "password": "${key}"}}}
    assert shown["swap"] == [{"secret": "key", "headers": ["X-Key"], "in": ["query", "body"], "require": True}]
    assert shown["strip_own"] is True


CHANGES = [
    ("in: [body, query]", "in: [query]", Kind.CREDENTIALS),
    (", require: true", "", Kind.CREDENTIALS),
    ("user: git", "user: other", Kind.CREDENTIALS),
    ("hosts: [a.test],", "hosts: [a.test], methods: [GET, POST],", Kind.CREDENTIALS),
    ("key-egress-0123456789", "other-egress-0123456789", Kind.CREDENTIALS),
    ("    strip_own: true\n", "", Kind.HEADERS),
]


@pytest.mark.parametrize(("old", "new", "kind"), CHANGES)
def test_each_change_is_told(tmp_path: Path, old: str, new: str, kind: Kind) -> None:
    """Where a credential goes is what a review of a policy is for."""
    assert old in WHOLE
    before, after = written(tmp_path, WHOLE), written(tmp_path, WHOLE.replace(old, new), "new.yaml")
    assert {group.kind for group in compare(before, after).changes.groups.values()} == {kind}


BOUND = [("", True), (", methods: [POST]", False), (", paths: [/login]", True), (", paths: [/other]", False)]


@pytest.mark.parametrize(("more", "goes"), BOUND)
def test_an_explanation_holds_the_binding(tmp_path: Path, more: str, goes: bool) -> None:  # noqa: FBT001 - a table's column
    """Methods and paths of the definition, whatever the rule says."""
    loaded = written(tmp_path, WHOLE.replace("hosts: [a.test]", f"hosts: [a.test]{more}"))
    told = judge(Request("box", Protocol.HTTPS, Host("a.test"), 443, "GET", "/login"), loaded)
    assert told.decision is not None
    assert (bool(told.decision.inject), bool(told.decision.swap)) == (goes, goes)

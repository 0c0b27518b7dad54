"""Parameters in a preset's rules: what they become, and what is left out without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from preset_folder import load, one_rule, preset, targets

from egress.errors import ConfigError
from egress.policy import SecretRef, TlsMode
from egress.review import Question, explain

if TYPE_CHECKING:
    from pathlib import Path


def test_a_list_in_a_target_makes_one_target_of_each(tmp_path: Path) -> None:
    """Beside entries that are written out, in their order."""
    loaded = one_rule(tmp_path, 'allow: [first.example.com, "${param.hosts}", "api.${param.labels}.example.com"]')
    assert loaded.policy.scopes[0].rules[0].targets == targets(
        "first.example.com", "a.example.com", "b.example.com:8443", "api.eu.example.com", "api.us.example.com"
    )


def test_two_lists_in_one_path_make_one_path_of_each_pair(tmp_path: Path) -> None:
    """And text around them stays."""
    loaded = one_rule(tmp_path, '{allow: a.example.com, paths: "/x/${param.repos}/${param.labels}"}', "repos: [a, b/c]")
    assert loaded.policy.scopes[0].rules[0].paths == ("/x/a/eu", "/x/a/us", "/x/b/c/eu", "/x/b/c/us")


def test_a_star_in_a_value_never_becomes_part_of_a_segment(tmp_path: Path) -> None:
    """`acme/*.git` is no pattern; the entry is left out, and the others stay."""
    loaded = one_rule(tmp_path, '{allow: a.example.com, paths: ["/${param.repos}.git", "/${param.repos}/x"]}')
    assert loaded.policy.scopes[0].rules[0].paths == ("/acme/app.git", "/acme/app/x", "/own/*/x")


def test_rule_whose_paths_all_fall_away_is_left_out_and_never_without_paths(tmp_path: Path) -> None:
    """An `allow` without its last path would allow everything."""
    for written in ('"/${param.repos}.git"', '["/${param.repos}.git"]'):
        loaded = one_rule(tmp_path, f"{{allow: a.example.com, paths: {written}}}", "repos: ['own/*']")
        assert loaded.rules == 0


def test_denial_whose_path_would_fall_away_is_an_error(tmp_path: Path) -> None:
    """A denial that goes missing is none."""
    with pytest.raises(ConfigError, match="would stand beside other text"):
        one_rule(tmp_path, '{deny: a.example.com, paths: "/${param.repos}.git"}')


def test_secret_is_named_by_a_parameter(tmp_path: Path) -> None:
    """The header's template gets the name of the including file's secret."""
    rule = "{allow: a.example.com, inject: {Authorization: 'Bearer ${param.secret} $$x', x-plain: 'a ${param.access}'}}"
    (found,) = one_rule(tmp_path, rule, "secret: key").policy.scopes[0].rules
    assert [(injection.header, injection.parts) for injection in found.inject] == [
        ("Authorization", ("Bearer ", SecretRef("key"), " $x")),
        ("x-plain", ("a read",)),
    ]


def test_header_and_ranges_without_their_value_are_left_out(tmp_path: Path) -> None:
    """An optional secret, and optional ranges."""
    rule = "{allow: a.example.com, inject: {x-a: '${param.secret}'}, addresses: '${param.inside}'}"
    (bare,) = one_rule(tmp_path, rule).policy.scopes[0].rules
    assert (bare.inject, bare.addresses) == ((), ())
    (full,) = one_rule(tmp_path, rule, "secret: key, inside: 10.0.0.0/8").policy.scopes[0].rules
    assert (len(full.inject), [str(network) for network in full.addresses]) == (1, ["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("when", "given", "kept"),
    [
        ("access: write", "", False),
        ("access: read", "", True),
        ("access: [read, write]", "access: write", True),
        ("secret: given", "", False),
        ("secret: left-out", "", True),
        ("secret: given", "secret: key", True),
        ("{access: write, secret: given}", "secret: key", False),
    ],
)
def test_when_keeps_a_rule_for_some_values(when: str, given: str, kept: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Of a `word` its words, of anything else whether it is given."""
    condition = when if when.startswith("{") else f"{{{when}}}"
    assert one_rule(tmp_path, f"{{when: {condition}, allow: a.example.com}}", given).rules == int(kept)


def test_tunnel_of_the_file_does_not_hide_what_a_preset_looks_at(tmp_path: Path) -> None:
    """A preset's rules say `auto` then; those that state their own `tls` keep it."""
    preset(tmp_path, "a", "rules: [{allow: a.example.com, methods: [GET]}, {allow: b.example.com, tls: tunnel}]\n")
    loaded = load(tmp_path, "tls: tunnel\ninclude: [a]\n")
    assert [rule.tls for rule in loaded.policy.scopes[0].rules] == [TlsMode.AUTO, TlsMode.TUNNEL]
    assert not explain(Question("https://a.example.com/", "POST"), loaded).allowed

"""What YAML allows and people use, and the limits of it: anchors, merges, line ends, sizes, links, words of Norway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.config.document import MAX_RULES
from egress.config.reading import MAX_FILE_BYTES, MAX_LIST_BYTES
from egress.errors import ConfigError
from egress.policy import Rule, Scope

if TYPE_CHECKING:
    from pathlib import Path

BASE = "- &base {allow: a.test, methods: [GET], paths: [/a]}\n"


def load(tmp_path: Path, rules: str, top: str = "version: 1\n") -> LoadedPolicy:
    """A policy of these rules."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(f"{top}rules:\n{rules}".encode())
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def refused(tmp_path: Path, rules: str, top: str = "version: 1\n") -> tuple[str, ...]:
    """What a policy that does not load says."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, rules, top)
    return tuple(str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems)


def rules_of(tmp_path: Path, rules: str) -> tuple[Rule, ...]:
    """The rules as they were read."""
    return load(tmp_path, rules).policy.scopes[0].rules


def said(rule: Rule) -> tuple[object, ...]:
    """What the merged rules differ in."""
    return [target.what.name for target in rule.targets], rule.methods, rule.paths  # type: ignore[union-attr, return-value]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("- {<<: *base, allow: b.test}\n", (["b.test"], {"GET"}, ("/a",))),
        ("- {allow: b.test, <<: *base}\n", (["b.test"], {"GET"}, ("/a",))),
        ("- {allow: b.test, methods: [PUT], <<: *base}\n", (["b.test"], {"PUT"}, ("/a",))),
        ("- &other {allow: c.test, methods: [PUT]}\n- <<: [*other, *base]\n", (["c.test"], {"PUT"}, ("/a",))),
        ("- &next {<<: *base, methods: [PUT]}\n- {<<: *next, paths: [/b]}\n", (["a.test"], {"PUT"}, ("/b",))),
        ("- {<<: {methods: [PUT]}, allow: b.test}\n", (["b.test"], {"PUT"}, None)),
        ('- {"<<": x, allow: b.test}\n', None),
    ],
)
def test_a_merge_adds_the_keys_that_the_rule_does_not_say_itself(
    tmp_path: Path, written: str, says: tuple[list[str], set[str], tuple[str, ...] | None] | None
) -> None:
    """Wherever `<<` stands; of several the first counts; in quotes it is no merge."""
    if says is None:
        assert "unknown key" in refused(tmp_path, BASE + written)[0]
    else:
        assert said(rules_of(tmp_path, BASE + written)[-1]) == says


def test_what_a_merge_brings_is_told_on_its_line(tmp_path: Path) -> None:
    """Else nobody would find it: the rule itself does not write the key."""
    problems = refused(tmp_path, "- &base {allow: a.test, methods: [get]}\n-\n  allow: b.test\n  <<: *base\n")
    assert [problem.partition(": rules")[0] for problem in problems] == ["policy.yaml:3", "policy.yaml:6"]


def test_merges_stand_for_no_more_than_their_aliases_may(tmp_path: Path) -> None:
    """A merge of a large mapping over and over is an expansion bomb like any other."""
    big = ", ".join(f"k{number}: 1" for number in range(2_000))
    text = f"- &a {{{big}}}\n" + "".join(f"- {{<<: *a, x{number}: 1}}\n" for number in range(6))
    assert "aliases stand for more than 10000 values" in refused(tmp_path, text)[0]


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "n", "y", "1:30", "2026-01-01", "=", "No", "NO", "1_000"])
def test_words_that_old_yaml_takes_for_something_else_are_text(tmp_path: Path, word: str) -> None:
    """YAML 1.2: a country is not a truth value, and a time of day not a number of minutes."""
    assert rules_of(tmp_path, f"- name: {word}\n  allow: a.test\n")[0].name == word


@pytest.mark.parametrize("word", ["3.10", "012", "0x1f", "0o17", "1e3", "-7", "7"])
def test_a_number_is_shown_as_it_was_written(tmp_path: Path, word: str) -> None:
    """In quotes it is then the text that was meant, not another spelling of the number."""
    (problem,) = refused(tmp_path, f"- name: {word}\n  allow: a.test\n")
    assert problem.endswith(f'should be text, not a number, put it in quotes: `"{word}"`')
    assert rules_of(tmp_path, f'- name: "{word}"\n  allow: a.test\n')[0].name == word


def test_line_ends_of_windows_are_line_ends(tmp_path: Path) -> None:
    """With the same rules on the same lines."""
    crlf, lf = (rules_of(tmp_path, f"- allow: a.test{end}- deny: b.test{end}") for end in ("\r\n", "\n"))
    assert crlf == lf


@pytest.mark.parametrize("hidden", ["\r", "\x85", "\u2028", "\u2029", "\u202e", "\u2066"])
def test_no_rule_hides_behind_a_comment(tmp_path: Path, hidden: str) -> None:
    """What some editors show as one line of comment is refused where YAML would read a rule in it."""
    (problem,) = refused(tmp_path, f"- deny: a.test # as ever{hidden}- allow: b.test\n")
    assert problem.startswith("policy.yaml:3: ")


def test_escapes_may_still_say_such_a_character(tmp_path: Path) -> None:
    """The hint of the message holds: it is then refused, or read, for what it is."""
    (problem,) = refused(tmp_path, '- allow: "a\\u2028.test"\n')
    assert "holds a space" in problem


def test_a_policy_has_at_most_10000_rules(tmp_path: Path) -> None:
    """One less loads; one more is told to use lists, and where."""
    rule = "- deny: a.test\n"
    assert len(rules_of(tmp_path, rule * MAX_RULES)) == MAX_RULES == 10_000
    (problem,) = refused(tmp_path, rule * (MAX_RULES + 1))
    assert problem.startswith("policy.yaml:10003: rules: more than 10,000 rules, move hosts into list files")


def test_a_file_that_is_too_large_says_how_large_it_may_be(tmp_path: Path) -> None:
    """Of policies and of lists, before any of it is parsed."""
    assert refused(tmp_path, "#" * MAX_FILE_BYTES) == (
        "policy.yaml: the file is larger than 8192 KB, split it, or move hosts into `{file: PATH}` lists",
    )
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(MAX_LIST_BYTES + 1)
    (problem,) = refused(tmp_path, "- deny: {file: list.txt}\n")
    assert "list.txt: the file is larger than 65536 KB" in problem


def test_a_link_out_of_the_folder_is_followed_and_told_by_its_real_path(tmp_path: Path) -> None:
    """The audit names the file that was read, not one that leads to it."""
    real = tmp_path / "elsewhere" / "real.yaml"
    real.parent.mkdir()
    real.write_text("version: 1\nrules:\n- deny: a.test\n")
    link = tmp_path / "here" / "policy.yaml"
    link.parent.mkdir()
    link.symlink_to(real)
    assert load_policy([PolicySource(Scope.SANDBOX, link)]).policy.scopes[0].rules[0].file == str(real)
    real.write_text("version: 1\nrulez: []\n")
    with pytest.raises(ConfigError) as caught:
        load_policy([PolicySource(Scope.SANDBOX, link)])
    assert [problem.file for problem in caught.value.problems] == [str(real)]


def test_a_link_within_the_folder_keeps_its_name(tmp_path: Path) -> None:
    """As in a ConfigMap, whose real paths change with each version."""
    version = tmp_path / "..2026"
    version.mkdir()
    (version / "policy.yaml").write_text("version: 1\nrules:\n- deny: a.test\n")
    (tmp_path / "..data").symlink_to(version.name)
    link = tmp_path / "policy.yaml"
    link.symlink_to("..data/policy.yaml")
    assert load_policy([PolicySource(Scope.SANDBOX, link)]).policy.scopes[0].rules[0].file == str(link)


def test_an_alias_names_its_own_container(tmp_path: Path) -> None:
    """What stands in itself is refused; it would have no end."""
    assert "is an alias, not text" in refused(tmp_path, "- allow: &a [*a]\n")[0]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n", "---\n", "---\n...\n"])
def test_an_empty_file_is_no_policy(tmp_path: Path, text: str) -> None:
    """An empty policy would be one that says nothing: the file says so itself, with its version."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="version: 1"):
        load_policy([PolicySource(Scope.SANDBOX, path)])

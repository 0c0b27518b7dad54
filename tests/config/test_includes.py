"""`include`: whose rules come first, where they say they stand, and what is watched and counted with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from machines import put
from preset_folder import GUIDE, load, names, preset, targets

from egress.config import EnvSource, PolicySource, SecretDefinition, load_policy
from egress.policy import Scope
from egress.review import Question, explain

if TYPE_CHECKING:
    from pathlib import Path


def test_included_rules_stand_after_the_files_own_in_the_order_named(tmp_path: Path) -> None:
    """Own rules, then each preset's rules, then what that preset includes, then the next preset."""
    preset(tmp_path, "a", "include: [c]\nrules: [{name: a1, allow: a.example.com}, {name: a2, allow: a.example.com}]\n")
    preset(tmp_path, "b", "rules: [{name: b1, allow: b.example.com}]\n")
    preset(tmp_path, "c", "rules: [{name: c1, allow: c.example.com}]\n")
    loaded = load(tmp_path, "include: [a, b]\nrules: [{name: own, deny: a.example.com}]\n")
    assert names(loaded) == ["own", "a1", "a2", "c1", "b1"]


def test_own_denial_wins_over_what_a_preset_allows(tmp_path: Path) -> None:
    """First match inside the scope, and the file's own come first wherever `include` stands."""
    preset(tmp_path, "a", "rules: [{allow: a.example.com}]\n")
    loaded = load(tmp_path, "include: a\nrules: [{deny: a.example.com, methods: [POST]}]\n")
    assert explain(Question("https://a.example.com/", "GET"), loaded).allowed
    assert not explain(Question("https://a.example.com/", "POST"), loaded).allowed


def test_files_of_one_scope_each_bring_their_presets(tmp_path: Path) -> None:
    """A file is one piece of its scope's list, its presets included."""
    preset(tmp_path, "a", "rules: [{name: preset, allow: a.example.com}]\n")
    first = put(tmp_path, "1.yaml", "version: 1\ninclude: [a]\nrules: [{name: first, allow: b.example.com}]\n")
    second = put(tmp_path, "2.yaml", "version: 1\nrules: [{name: second, allow: b.example.com}]\n")
    sources = [PolicySource(Scope.SANDBOX, first), PolicySource(Scope.SANDBOX, second)]
    assert names(load_policy(sources, presets=[tmp_path / "presets"])) == ["first", "preset", "second"]


def test_rule_keeps_the_file_and_line_of_its_preset(tmp_path: Path) -> None:
    """Denials, the audit and `explain` say where a rule stands."""
    path = preset(tmp_path, "a", "rules:\n  - allow: a.example.com\n  - allow: b.example.com\n")
    rules = load(tmp_path, "include: [a]\n").policy.scopes[0].rules
    assert [(rule.file, rule.line) for rule in rules] == [(str(path), 4), (str(path), 5)]


def test_every_file_that_counts_is_watched(tmp_path: Path) -> None:
    """The policy, presets, presets of presets, and lists that they name."""
    preset(tmp_path, "a", "include: [b]\nrules: [{deny: {file: list.txt}}]\n")
    preset(tmp_path, "b", "rules: []\n")
    put(tmp_path, "presets/list.txt", "bad.example.com\n")
    files = [path.name for path in load(tmp_path, "include: [a]\n").files]
    assert sorted(files) == ["a.yaml", "b.yaml", "list.txt", "policy.yaml"]


def test_digest_covers_presets_their_lists_and_parameters(tmp_path: Path) -> None:
    """What changes a decision changes the generation's name; a comment does not."""
    parameter = "hosts: {type: hosts, about: x, required: true}"

    def digest(host: str, rest: str, entry: str = "bad.example.com") -> str:
        preset(
            tmp_path, "a", f"rules: [{{allow: '${{param.hosts}}'}}, {{deny: {{file: list.txt}}}}{rest}]\n", parameter
        )
        put(tmp_path, "presets/list.txt", entry + "\n")
        return load(tmp_path, f"include: [{{preset: a, hosts: [{host}]}}]\n").policy.digest

    first = digest("a.example.com", "")
    assert digest("a.example.com", "") == first
    others = {
        digest("b.example.com", ""),
        digest("a.example.com", ", {deny: c.example.com}"),
        digest("a.example.com", "", "worse.example.com"),
    }
    assert len(others | {first}) == 4


def test_own_preset_wins_over_a_shipped_one(tmp_path: Path) -> None:
    """A preset that a later version brings must not take the place of one that is in use."""
    preset(tmp_path, "github", "rules: [{name: mine, allow: git.corp.example}]\n")
    assert names(load(tmp_path, "include: [github]\n")) == ["mine"]


def test_inclusions_are_told_with_their_parameters(tmp_path: Path) -> None:
    """`egress policy show` prints what a preset resolved to."""
    preset(tmp_path, "a", "rules: []\n", "hosts: {type: hosts, about: x, default: [a.example.com]}")
    (inclusion,) = load(tmp_path, "rules: []\ninclude:\n  - a\n").includes
    assert (inclusion.preset, inclusion.line, inclusion.parameters) == ("a", 4, {"hosts": ("a.example.com",)})


def test_preset_of_the_guide_works_as_the_guide_says(tmp_path: Path) -> None:
    """What people copy loads, reads without parameters for writing, and writes with them."""
    example = next(
        text for text in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "preset:\n" in text
    )
    put(tmp_path, "presets/wiki.yaml", example)
    reading = load(tmp_path, "include: [{preset: wiki, teams: platform}]\n")
    page = "https://wiki.corp.example/platform/on-call"
    assert reading.warnings == ()
    assert explain(Question(page, "GET"), reading).allowed
    assert not explain(Question(page, "PUT"), reading).allowed
    assert not explain(Question("https://wiki.corp.example/sales/a", "GET"), reading).allowed
    writing = load(tmp_path, "include: [{preset: wiki, teams: platform, access: write}]\n")
    assert explain(Question(page, "PUT"), writing).allowed


def test_secret_of_the_server_can_be_handed_on(tmp_path: Path) -> None:
    """It is one that the file may name."""
    server = {"key": SecretDefinition("key", EnvSource("KEY"), targets("api.github.com"))}
    source = PolicySource(
        Scope.SANDBOX, put(tmp_path, "policy.yaml", "version: 1\ninclude: [{preset: github, secret: key}]\n")
    )
    assert load_policy([source], secrets=server).rules

"""What is wrong with an `include`: told with the line of the include, where it is to be mended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from machines import put
from preset_folder import GUIDE, PARAMETERS, load, names, one_rule, preset, problems

from egress.config import PolicySource, load_policy
from egress.errors import ConfigError
from egress.policy import Scope
from egress.review import Question, explain

if TYPE_CHECKING:
    from pathlib import Path

MISTAKES = [
    ("include: [nothing-like-it]", "policy.yaml:2: include[0].preset: no preset is named `nothing-like-it`"),
    ("include:\n  - gihub", "policy.yaml:3: include[0].preset: no preset is named `gihub`"),
    ("include: ['../a']", "policy.yaml:2: include[0].preset: `../a` is not a preset's name"),
    ("include: [{repos: [a/b]}]", "policy.yaml:2: include[0]: `preset` is missing"),
    ("include: [{preset: 7}]", "policy.yaml:2: include[0].preset: should be text, not a number"),
    ("include: [7]", "policy.yaml:2: include[0]: should be a mapping, not a number"),
    ("include: {preset: a}", "policy.yaml:2: include: should be a list, not a mapping"),
    ("include: []", "policy.yaml:2: include: this list is empty, so nothing could match"),
    ("include:", "policy.yaml:2: include: nothing stands after this key"),
    (
        "include: [{preset: github, repo: a/b}]",
        "policy.yaml:2: include[0].repo: the preset `github` has no parameter `repo`",
    ),
    (
        "include:\n  - preset: github\n    repos: 7",
        "policy.yaml:4: include[0].repos: should be text or a list of texts, not a number",
    ),
    (
        "include: [{preset: github, repos: []}]",
        "policy.yaml:2: include[0].repos: this list is empty, so nothing could match",
    ),
    (
        "include: [{preset: github, repos: [a/b, a/../b]}]",
        "policy.yaml:2: include[0].repos[1]: `a/../b` is not a path of plain segments",
    ),
    ("include: [{preset: github, access: admin}]", "policy.yaml:2: include[0].access: unknown word `admin`"),
    ("include: [{preset: github, access: [read]}]", "policy.yaml:2: include[0].access: should be text, not a list"),
    ("include: [{preset: github, secret: gh}]", "policy.yaml:2: include[0].secret: no secret is named `gh`"),
    ("include: [{preset: azure-openai}]", "policy.yaml:2: include[0]: the preset `azure-openai` needs `resources`"),
    (
        "include: [{preset: azure-openai, resources: [a.evil.test/]}]",
        "policy.yaml:2: include[0].resources[0]: `a.evil.test/` is not one label of a host name",
    ),
    ("include: [{preset: pypi, hosts: ['**']}]", "policy.yaml:2: include[0].hosts[0]: `**` is not a host"),
    (
        "include: [{preset: pypi, hosts: ['*.com']}]",
        "policy.yaml:2: include[0].hosts[0]: `*.com` covers names that anyone can register",
    ),
    (
        "include: [{preset: pypi, hosts: [a.example.com], addresses: [0.0.0.0/0]}]",
        "policy.yaml:2: include[0].addresses[0]: `0.0.0.0/0` covers every address",
    ),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_mistake_is_told_with_the_line_of_the_include(text: str, said: str, tmp_path: Path) -> None:
    """One problem each, at the place where it is to be mended."""
    assert problems(tmp_path, text + "\n") == [said]


def test_mistyped_names_get_a_suggestion(tmp_path: Path) -> None:
    """Of presets, of parameters, of words, of secrets."""
    (tmp_path / "presets").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "include:\n  - gihub\n  - {preset: github, repo: [a/b]}\n  - {preset: github, access: wirte}\n")
    assert [problem.hint for problem in caught.value.problems] == [
        "did you mean `github`?",
        "did you mean `repos`?",
        "did you mean `write`?",
    ]


@pytest.mark.parametrize("preset_name", ["pypi", "npm", "debian", "ubuntu"])
def test_hosts_that_nothing_tells_are_an_error_that_names_the_parameter(preset_name: str, tmp_path: Path) -> None:
    """Never a guess: nothing of these services is written anywhere."""
    (tmp_path / "presets").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"include: [{preset_name}]\n")
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"`hosts` of the preset `{preset_name}` is not given, and ")
    assert problem.hint == f"write `{{preset: {preset_name}, hosts: [packages.corp.example]}}`"
    if preset_name == "npm":
        shown = re.search(r"```text\n(policy.yaml:2: include.*)\n", GUIDE.read_text())
        assert shown is not None
        assert str(problem).endswith(shown[1])


def test_bundle_leaves_out_what_the_machine_does_not_tell_and_says_so(tmp_path: Path) -> None:
    """The other languages are of use without npm."""
    (tmp_path / "presets").mkdir()
    loaded = load(tmp_path, "include: [package-registries]\n")
    assert [warning.message.partition(",")[0] for warning in loaded.warnings] == [
        "`pypi` of the preset `package-registries` is not given",
        "`npm` of the preset `package-registries` is not given",
    ]
    assert "Rust crates" in names(loaded)
    assert "npm packages" not in names(loaded)


def test_preset_uses_no_secret_that_was_not_handed_to_it(tmp_path: Path) -> None:
    """A preset that could name `key` itself would take a secret that its user did not mean for it."""
    rule = "{allow: a.example.com, inject: {x-a: 'Bearer ${key}'}}"
    with pytest.raises(ConfigError, match="a preset names no secret of its own"):
        one_rule(tmp_path, rule)


def test_preset_signs_with_no_secret_of_its_users(tmp_path: Path) -> None:
    """`sign` names a secret as well, and a parameter cannot stand there."""
    for name in ("key", "${param.secret}"):
        with pytest.raises(ConfigError, match="a preset names no secret of its own, as `sign` would"):
            one_rule(tmp_path, f"{{allow: a.example.com, sign: {{sigv4: '{name}'}}}}")


def test_secret_that_is_bound_elsewhere_is_refused_and_the_include_is_named(tmp_path: Path) -> None:
    """It would never be sent; both places are told."""
    preset(tmp_path, "a", "rules:\n  - {allow: b.example.com, inject: {x-a: '${param.secret}'}}\n", PARAMETERS)
    said = problems(
        tmp_path,
        "secrets: {key: {env: KEY, hosts: [a.example.com]}}\nrules: []\ninclude:\n  - {preset: a, secret: key}\n",
    )
    assert said == [
        "policy.yaml:5: include[0]: the preset `a` cannot be used like this",
        "a.yaml:4: rules[0].inject.x-a: the secret `key` is bound to none of this rule's hosts",
    ]


def test_lower_scope_hands_on_secrets_of_the_org_and_defines_none(tmp_path: Path) -> None:
    """A preset does not open what a file of that scope may not do itself."""
    org = put(
        tmp_path,
        "org.yaml",
        "version: 1\nsecrets: {key: {env: KEY, hosts: [api.github.com]}}\nrules: [{allow: '**'}]\n",
    )
    team = put(tmp_path, "team.yaml", "version: 1\ninclude: [{preset: github, secret: key}]\n")
    loaded = load_policy([PolicySource(Scope.ORG, org), PolicySource(Scope.TEAM, team)])
    answer = explain(Question("https://api.github.com/repos/acme/app", "GET"), loaded)
    assert answer.allowed
    assert answer.decision is not None
    assert [injection.secrets for injection in answer.decision.inject] == [("key",)]

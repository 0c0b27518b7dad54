"""What is wrong with a preset: told with its own file and line, and nothing of it is used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from machines import put
from preset_folder import HEAD, load, preset, problems

from egress.config import PolicySource, load_policy
from egress.errors import ConfigError
from egress.policy import Scope

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = [
    (
        "secrets: {k: {env: K, hosts: [a.example.com]}}\n",
        "",
        "secrets: a preset states `include`, `preset` and `rules` only",
    ),
    ("default: allow\n", "", "default: a preset states"),
    ("tls: tunnel\n", "", "tls: a preset states"),
    ("rules: {a: b}\n", "", "rules: should be a list"),
    ("rules: [{allow: a.example.com, colour: red}]\n", "", "rules[0].colour: unknown key"),
    (
        "rules: [{allow: '${param.host}'}]\n",
        "hosts: {type: hosts, about: x, default: [a.example.com]}",
        "rules[0].allow: no parameter is named `host`",
    ),
    (
        "rules: [{allow: 'x.${param.hosts}'}]\n",
        "hosts: {type: hosts, about: x, default: [a.example.com]}",
        "rules[0].allow: a parameter of type `hosts` stands alone",
    ),
    (
        "rules: [{allow: a.example.com, paths: '/${param.hosts}'}]\n",
        "hosts: {type: hosts, about: x, default: [a.example.com]}",
        "rules[0].paths: a parameter of type `hosts` cannot stand in `paths`",
    ),
    (
        "rules: [{allow: '${param.repos}'}]\n",
        "repos: {type: paths, about: x, default: [a/b]}",
        "rules[0].allow: a parameter of type `paths` cannot stand in `allow`",
    ),
    (
        "rules: [{allow: a.example.com, methods: ['${param.m}']}]\n",
        "m: {type: word, about: x, words: [GET], default: GET}",
        "rules[0].methods[0]: a parameter stands in targets, `paths`, `addresses` and `inject` only",
    ),
    (
        "rules: [{allow: {file: '${param.m}'}}]\n",
        "m: {type: word, about: x, words: [a], default: a}",
        "rules[0].allow.file: a parameter stands in targets",
    ),
    (
        "rules: [{deny: '${param.hosts}'}]\n",
        "hosts: {type: hosts, about: x, optional: true}",
        "rules[0].deny: `hosts` may be left out, and this rule would say less without it",
    ),
    ("rules: [{when: {x: y}, allow: a.example.com}]\n", "", "rules[0].when.x: no parameter is named `x`"),
    (
        "rules: [{when: {m: b}, allow: a.example.com}]\n",
        "m: {type: word, about: x, words: [a], default: a}",
        "rules[0].when.m: unknown word `b`",
    ),
    (
        "rules: [{when: write, allow: a.example.com}]\n",
        "",
        "rules[0].when: should be a mapping of parameters, not text",
    ),
    ("include: [{preset: crates, hosts: '${param.x}'}]\n", "", "include[0].hosts: no parameter is named `x`"),
    ("rules: []\n", "x: {type: text, about: x, required: true}", "preset.parameters.x.type: unknown word `text`"),
    (
        "rules: []\n",
        "x: {type: hosts, about: x}",
        "preset.parameters.x: a parameter states one of `required`, `default` and `optional`",
    ),
    (
        "rules: []\n",
        "x: {type: hosts, about: x, required: true, default: [a.example.com]}",
        "preset.parameters.x: a parameter states one of",
    ),
    (
        "rules: []\n",
        "x: {type: paths, about: x, optional: true}",
        "preset.parameters.x: a parameter of type `paths` cannot be optional",
    ),
    (
        "rules: []\n",
        "x: {type: word, about: x, required: true}",
        "preset.parameters.x: `words` belong to a parameter of type `word`",
    ),
    (
        "rules: []\n",
        "x: {type: secret, about: x, default: key}",
        "preset.parameters.x: a preset names no secret of its own",
    ),
    ("rules: []\n", "x: {type: hosts, about: x, default: ['a b']}", "preset.parameters.x.default: `a b` is not a host"),
    (
        "rules: []\n",
        "x: {type: paths, about: x, from: pip}",
        "preset.parameters.x: `from` belongs to a parameter of type `hosts`",
    ),
    (
        "rules: []\n",
        "x: {type: hosts, about: x, from: brew}",
        "preset.parameters.x.from: should be `pip`, `npm`, `apt-debian` or `apt-ubuntu`",
    ),
    (
        "rules: []\n",
        "X: {type: hosts, about: x, required: true}",
        "preset.parameters.X: `X` is not a name for a parameter",
    ),
    (
        "rules: []\n",
        "x: {type: word, about: x, words: ['${y}'], required: true}",
        "preset.parameters.x.words[0]: `${y}` is not a word",
    ),
]


@pytest.mark.parametrize(("rest", "parameters", "said"), BROKEN, ids=[said for _, _, said in BROKEN])
def test_preset_that_is_wrong_is_told_with_its_own_line(rest: str, parameters: str, said: str, tmp_path: Path) -> None:
    """And nothing of it is used."""
    preset(tmp_path, "a", rest, parameters)
    given = ", x: [a.example.com]" if "required" in parameters and "hosts" in parameters else ""
    found = problems(tmp_path, f"include: [{{preset: a{given}}}]\n")
    assert any(re.match(r"a\.yaml:[23]: ", line) and line.partition(": ")[2].startswith(said) for line in found), found


def test_policy_file_is_no_preset(tmp_path: Path) -> None:
    """Its header is missing."""
    put(tmp_path, "presets/a.yaml", "version: 1\nrules: []\n")
    assert problems(tmp_path, "include: [a]\n") == ["a.yaml:1: : `preset` is missing"]


def test_preset_that_every_user_can_change_is_refused(tmp_path: Path) -> None:
    """It is read as strictly as a policy."""
    preset(tmp_path, "a", "rules: []\n").chmod(0o666)
    assert problems(tmp_path, "include: [a]\n") == ["a.yaml:None: : every user of this machine can change this file"]


def test_folder_of_presets_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Else presets of other folders would silently take the place of its own."""
    with pytest.raises(ConfigError, match="no such folder"):
        load(tmp_path, "rules: []\n")


def test_one_name_in_two_folders_is_an_error(tmp_path: Path) -> None:
    """Which of them holds must not hang on the order of flags."""
    for folder in ("one", "two"):
        put(tmp_path, f"{folder}/a.yaml", HEAD % "" + "rules: []\n")
    source = PolicySource(Scope.SANDBOX, put(tmp_path, "policy.yaml", "version: 1\ninclude: [a]\n"))
    with pytest.raises(ConfigError, match="two presets have this name"):
        load_policy([source], presets=[tmp_path / "one", tmp_path / "two"])

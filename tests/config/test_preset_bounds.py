"""Presets are bounded, and no value of a parameter means more than it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import bare_machine, put
from preset_folder import load, preset, problems

from egress.config import PolicySource, load_policy
from egress.config.preset_parameters import LISTS, MAX_VALUES, Kind, Wrong, read_value
from egress.config.presets import MAX_DEPTH, MAX_INCLUDES, MAX_RULES
from egress.config.substitution import MAX_ENTRIES
from egress.errors import ConfigError
from egress.policy import Scope

if TYPE_CHECKING:
    from pathlib import Path


def test_preset_that_includes_itself_is_refused(tmp_path: Path) -> None:
    """Straight, and by way of others; the way is told."""
    preset(tmp_path, "a", "include: [b]\n")
    preset(tmp_path, "b", "include: [a]\n")
    preset(tmp_path, "c", "include: [c]\n")
    assert problems(tmp_path, "include: [a, c]\n") == [
        "b.yaml:3: include[0]: the preset `a` includes itself: a > b > a",
        "c.yaml:3: include[0]: the preset `c` includes itself: c > c",
    ]


def test_depth_of_includes_is_bounded(tmp_path: Path) -> None:
    """At the bound it loads, one deeper it does not."""
    for level in range(MAX_DEPTH + 1):
        preset(tmp_path, f"p{level}", f"include: [p{level + 1}]\n" if level < MAX_DEPTH else "rules: []\n")
    assert load(tmp_path, "include: [p1]\n").rules == 0
    (said,) = problems(tmp_path, "include: [p0]\n")
    assert said.endswith(f"presets include presets more than {MAX_DEPTH} deep")


def test_number_of_includes_is_bounded(tmp_path: Path) -> None:
    """A few levels of bundles name more presets than memory holds."""
    preset(tmp_path, "a", "rules: []\n")
    assert len(load(tmp_path, f"include: [{', '.join(['a'] * MAX_INCLUDES)}]\n").includes) == MAX_INCLUDES
    said = problems(tmp_path, f"include: [{', '.join(['a'] * (MAX_INCLUDES + 1))}]\n")
    assert said == [f"policy.yaml:2: include[{MAX_INCLUDES}]: more than {MAX_INCLUDES} presets are included"]


def test_number_of_rules_is_bounded(tmp_path: Path) -> None:
    """Of all presets of one file together."""
    many = MAX_RULES // 10 + 1
    preset(tmp_path, "a", "rules:\n" + "  - {deny: a.example.com}\n" * many)
    said = problems(tmp_path, f"include: [{', '.join(['a'] * 10)}]\n")
    assert said == [f"policy.yaml:2: include[9]: presets make more than {MAX_RULES} rules"]


def test_number_of_entries_that_parameters_make_is_bounded(tmp_path: Path) -> None:
    """Three lists in one path are a product, and a small file must not become a large one."""
    values = json.dumps([f"a{number}" for number in range(MAX_VALUES)])
    preset(
        tmp_path,
        "a",
        'rules:\n  - {allow: a.example.com, paths: "/${param.x}/${param.x}/${param.x}"}\n',
        "x: {type: paths, about: x, required: true}",
    )
    said = problems(tmp_path, f"include: [{{preset: a, x: {values}}}]\n")
    assert f"a.yaml:4: rules[0].paths: the parameters make more than {MAX_ENTRIES} entries" in said
    values = json.dumps([f"a{number}" for number in range(MAX_VALUES + 1)])
    said = problems(tmp_path, f"include: [{{preset: a, x: {values}}}]\n")
    assert said == [f"policy.yaml:2: include[0].x: more than {MAX_VALUES} values"]


@pytest.mark.parametrize("kind", Kind)
@given(text=st.text(max_size=12) | st.text(alphabet="ab.*/-_:$\\{}~ \n%", max_size=10))
@settings(max_examples=200)
def test_no_value_holds_a_character_that_could_mean_something_else(kind: Kind, text: str) -> None:
    """Nothing that ends a header, begins a secret or climbs out of a path is ever taken."""
    value = read_value(kind, [text] if kind in LISTS else text, ["read", "write"])
    if isinstance(value, Wrong):
        assert value.message
        return
    assert value == (text if kind not in LISTS else (text,))
    assert not set("${}\\ \n\r\t%?#;\"'`|<>") & set(text)
    assert ".." not in text.split("/")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["github", "crates", "a/b", "read"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["preset", "repos", "access", "secret", "hosts", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=VALUES)
@settings(max_examples=150, deadline=None)
def test_any_include_gives_a_policy_or_problems(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No value is a crash."""
    folder = tmp_path_factory.mktemp("law")
    path = put(folder, "policy.yaml", json.dumps({"version": 1, "include": value}))
    source = PolicySource(Scope.SANDBOX, path)
    try:
        told = bool(load_policy([source], machine=bare_machine(folder)).includes)
    except ConfigError as error:
        told = all(problem.message for problem in error.problems)
    assert told

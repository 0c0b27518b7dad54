"""A folder of presets and a policy that includes them, as tests write them, on a machine without any tool."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import bare_machine, put

from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.errors import ConfigError
from egress.policy import Scope, Target, parse_target

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "presets.md"

HEAD = "version: 1\npreset: {title: t, allows: a, risks: r%s}\n"


def preset(folder: Path, name: str, rest: str, parameters: str = "") -> Path:
    """A preset of the user's, in the folder that `load` looks in."""
    header = HEAD % (f", parameters: {{{parameters}}}" if parameters else "")
    return put(folder, f"presets/{name}.yaml", header + rest)


def load(folder: Path, text: str, *, scope: Scope = Scope.SANDBOX) -> LoadedPolicy:
    """A policy with the user's presets, on a machine without any tool."""
    source = PolicySource(scope, put(folder, "policy.yaml", "version: 1\n" + text))
    return load_policy([source], presets=[folder / "presets"], machine=bare_machine(folder))


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong, with the file and line of each."""
    (folder / "presets").mkdir(exist_ok=True)
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [
        f"{Path(problem.file).name}:{problem.line}: {problem.where}: {problem.message}"
        for problem in caught.value.problems
    ]


def names(loaded: LoadedPolicy) -> list[str | None]:
    """The names of all rules of the first scope, in order."""
    return [rule.name for rule in loaded.policy.scopes[0].rules]


def targets(*texts: str) -> tuple[Target, ...]:
    """Targets that must parse."""
    found = tuple(parse_target(text) for text in texts)
    assert all(isinstance(target, Target) for target in found)
    return found  # type: ignore[return-value]


PARAMETERS = (
    "hosts: {type: hosts, about: x, default: [a.example.com, 'b.example.com:8443']}, "
    "labels: {type: labels, about: x, default: [eu, us]}, "
    "repos: {type: paths, about: x, default: [acme/app, own/*]}, "
    "access: {type: word, about: x, words: [read, write], default: read}, "
    "secret: {type: secret, about: x, optional: true}, "
    "inside: {type: networks, about: x, optional: true}"
)


def one_rule(folder: Path, rule: str, given: str = "") -> LoadedPolicy:
    """A policy of one preset with one rule."""
    preset(folder, "a", f"rules:\n  - {rule}\n", PARAMETERS)
    secrets = "secrets: {key: {env: KEY, hosts: [a.example.com]}}\n"
    return load(folder, f"{secrets}include: [{{preset: a{', ' if given else ''}{given}}}]\n")

"""The presets that come with egress: each lets pass what it says, and nothing else. The cases: preset_cases.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machines import configured_machine
from ruamel.yaml import YAML

from egress.config import (
    EnvSource,
    LoadedPolicy,
    Machine,
    PolicySource,
    SecretDefinition,
    find_policy,
    load_policy,
    shipped_presets,
)
from egress.config.preset_files import PresetLibrary
from egress.policy import AnyTarget, HostTarget, Reason, Scope, Target, Verdict, parse_target
from egress.review import Question, explain, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.review import Explanation

ROOT = Path(__file__).parents[2]
CASES: dict[str, list[dict[str, object]]] = YAML(typ="safe", pure=True).load(
    (Path(__file__).parent / "preset_cases.yaml").read_text()
)
KINDS = ("allow", "deny", "injects", "bare")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which every tool is configured."""
    return configured_machine(tmp_path_factory.mktemp("machine"))


def hosts_of(case: Mapping[str, object]) -> Iterator[Target]:
    """Every host of a case's requests: what its secrets are bound to."""
    for kind in KINDS:
        for line in case.get(kind, []):  # type: ignore[attr-defined]
            destination = parse_url(line.partition(" ")[2])
            assert destination is not None
            target = parse_target(f"{destination.host.text}:{destination.port}")  # type: ignore[union-attr]
            assert isinstance(target, Target)
            yield target


def load(name: str, case: Mapping[str, object], folder: Path, machine: Machine) -> LoadedPolicy:
    """A policy that includes nothing but this preset."""
    given = case.get("given", {})
    assert isinstance(given, dict)
    path = folder / "policy.yaml"
    under = case.get("under", {})
    assert isinstance(under, dict)
    path.write_text(json.dumps({"version": 1, **under, "include": [{"preset": name, **given}]}))
    hosts = tuple(hosts_of(case))
    secrets = {key: SecretDefinition(key, EnvSource("KEY"), hosts) for key in ("key", "other")}
    return load_policy([PolicySource(Scope.SANDBOX, path)], secrets=secrets, machine=machine)


def ask(loaded: LoadedPolicy, line: str) -> Explanation:
    """What a policy says to `METHOD URL`."""
    method, _, url = line.partition(" ")
    return explain(Question(url, method), loaded)


def rows() -> Iterator[tuple[str, int, str, str]]:
    """Every request of every case: the preset, the case, what must hold, the request."""
    for name, cases in CASES.items():
        for index, case in enumerate(cases):
            for kind in KINDS:
                for line in case.get(kind, []):  # type: ignore[attr-defined]
                    yield name, index, kind, line


@pytest.mark.parametrize("name", sorted(shipped_presets()))
def test_every_preset_has_requests_that_must_and_must_not_pass(name: str) -> None:
    """A preset that is added without cases is one that nobody has tried."""
    kinds = {kind for case in CASES.get(name, []) for kind in KINDS if case.get(kind)}
    assert {"allow", "deny"} <= kinds


def test_every_case_is_of_a_preset() -> None:
    """A case of a preset that is gone tests nothing."""
    assert set(CASES) <= set(shipped_presets())


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row[0]}-{row[2]}-{row[3]}")
def test_request_passes_or_not(row: tuple[str, int, str, str], tmp_path: Path, machine: Machine) -> None:
    """`injects`: passes with a secret; `bare`: passes, and no secret goes along."""
    name, index, kind, line = row
    loaded = load(name, CASES[name][index], tmp_path, machine)
    answer = ask(loaded, line)
    assert answer.allowed is (kind != "deny"), answer.reason
    if kind in {"injects", "bare"}:
        assert answer.decision is not None
        assert any(injection.secrets for injection in answer.decision.inject) is (kind == "injects")


@pytest.mark.parametrize("name", CASES)
def test_preset_loads_without_a_warning_and_names_where_its_rules_stand(
    name: str, tmp_path: Path, machine: Machine
) -> None:
    """Denials and the audit name the preset's file; reload watches it."""
    for case in CASES[name]:
        loaded = load(name, case, tmp_path, machine)
        assert [warning for warning in loaded.warnings if warning.where not in dict(case.get("under", {}))] == []  # type: ignore[call-overload]
        assert loaded.rules
        files = {str(path) for path in loaded.files}
        for rule in loaded.policy.scopes[0].rules:
            assert Path(rule.file).parent == (ROOT / "policies" / "presets")
            assert rule.file in files
            assert rule.name
            assert rule.line


# Presets of which a rule goes beyond reading, when they are included without `access: write`: their whole work is to
# send (models, MCP), or reading needs a POST (git, OCSP, lists of files).
BEYOND_READING = {
    "anthropic": {"POST"},
    "openai": {"POST"},
    "azure-openai": {"POST"},
    "google-ai": {"POST"},
    "aws-bedrock": {"POST"},
    "model-providers": {"POST"},
    "remote-mcp": {"POST", "DELETE"},
    "github": {"POST"},
    "gitlab": {"POST"},
    "bitbucket": {"POST"},
    "azure-devops": {"POST"},
    "code-repositories": {"POST"},
    "huggingface": {"POST"},
    "time-and-ocsp": {"POST"},
}


@pytest.mark.parametrize("name", CASES)
def test_preset_is_read_only_wherever_its_tool_is(name: str, tmp_path: Path, machine: Machine) -> None:
    """Beyond reading only what is listed here; and git's POST is the one that fetches."""
    reading = {"GET", "HEAD", "OPTIONS"}
    for case in CASES[name]:
        if "write" in dict(case.get("given", {})).values():  # type: ignore[call-overload]
            continue
        for rule in load(name, case, tmp_path, machine).policy.scopes[0].rules:
            if rule.verdict is Verdict.DENY:
                continue
            if rule.methods is None:
                assert name in {"openai", "model-providers"}, "only a WebSocket rule states no methods"
                continue
            assert rule.methods <= reading | BEYOND_READING.get(name, set())
            assert not any(path.endswith("git-receive-pack") for path in rule.paths or ())


@pytest.mark.parametrize("name", CASES)
def test_no_preset_names_any_host_or_lets_text_through_unread(name: str, tmp_path: Path, machine: Machine) -> None:
    """No `**`, no tunnel, no raw TCP; a rule that goes beyond reading names its paths, but for OCSP's responders."""
    for case in CASES[name]:
        for rule in load(name, case, tmp_path, machine).policy.scopes[0].rules:
            if rule.verdict is Verdict.DENY:
                continue
            assert not any(isinstance(target.what, AnyTarget) for target in rule.targets)
            assert all(isinstance(target.what, HostTarget) for target in rule.targets)
            assert rule.tls is None
            if "POST" in (rule.methods or ()):
                assert rule.paths or rule.name == "revocation of certificates"


@pytest.mark.parametrize("name", sorted(shipped_presets()))
def test_preset_says_what_it_allows_and_risks(name: str) -> None:
    """For whoever opens the file, and for whoever reads the guide."""
    text = shipped_presets()[name].read_text()
    head = text.partition("\nversion:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "Risks" in head or "risks" in head
    library = PresetLibrary()
    preset = library.read(shipped_presets()[name])
    assert preset is not None, library.problems
    said = preset.model.preset
    shown = [f"**`{key}`**" if value.required else f"`{key}`" for key, value in preset.parameters.items()]
    row = f"| `{name}` | {said.allows} | {said.risks} | {', '.join(shown) or 'none'} |"
    assert row in (ROOT / "docs" / "guides" / "presets.md").read_text().splitlines()


EXAMPLES = [
    ("balanced", "POST https://api.anthropic.com/v1/messages", Reason.RULE_ALLOW),
    ("balanced", "GET https://packages.corp.example/simple/a/", Reason.RULE_ALLOW),
    ("balanced", "POST https://github.com/acme/app/git-upload-pack", Reason.RULE_ALLOW),
    ("balanced", "POST https://github.com/acme/app/git-receive-pack", Reason.PATH_NOT_ALLOWED),
    ("balanced", "GET http://169.254.169.254/", Reason.RULE_DENY),
    ("balanced", "GET https://example.com/", Reason.HOST_NOT_ALLOWED),
    ("ci-job", "POST https://github.com/acme/app/git-upload-pack", Reason.RULE_ALLOW),
    ("ci-job", "POST https://github.com/other/app/git-upload-pack", Reason.PATH_NOT_ALLOWED),
    ("ci-job", "GET https://registry-1.docker.io/v2/library/alpine/manifests/latest", Reason.RULE_ALLOW),
    ("ci-job", "GET https://npm.corp.example/left-pad", Reason.RULE_ALLOW),
    ("ci-job", "PUT https://npm.corp.example/left-pad", Reason.METHOD_NOT_ALLOWED),
    ("ci-job", "POST https://upload.packages.example/", Reason.APPROVAL_REQUIRED),
    ("data-notebook", "GET https://conda.anaconda.org/conda-forge/noarch/repodata.json", Reason.RULE_ALLOW),
    ("data-notebook", "GET https://huggingface.co/acme/model/resolve/main/config.json", Reason.RULE_ALLOW),
    ("data-notebook", "GET https://data.corp.example/tables", Reason.RULE_ALLOW),
    ("data-notebook", "POST https://data.corp.example/tables", Reason.METHOD_NOT_ALLOWED),
    ("data-notebook", "GET tcp://warehouse.corp.example:5432", Reason.RULE_ALLOW),
    ("data-notebook", "GET https://github.com/", Reason.HOST_NOT_ALLOWED),
]


@pytest.mark.parametrize(("name", "line", "reason"), EXAMPLES)
def test_example_answers_as_its_comments_say(name: str, line: str, reason: Reason, machine: Machine) -> None:
    """What people copy does what it says, without a warning."""
    loaded = load_policy([find_policy(name)], machine=machine)
    assert loaded.warnings == ()
    method, _, url = line.partition(" ")
    question = Question(url, None if url.startswith("tcp:") else method)
    assert explain(question, loaded).reason is reason


def test_posture_open_says_how_open_it_is(machine: Machine) -> None:
    """The one that allows by default is loud."""
    assert [warning.where for warning in load_policy([find_policy("open")], machine=machine).warnings] == ["default"]


MULTI_TENANT = [
    ("POST https://api.anthropic.com/v1/messages", Reason.RULE_ALLOW),
    ("POST https://github.com/acme/app/git-receive-pack", Reason.RULE_ALLOW),
    ("POST https://github.com/acme/other/git-receive-pack", Reason.PATH_NOT_ALLOWED),
    ("GET https://staging.team.corp.example/", Reason.RULE_ALLOW),
    ("GET https://unknown.test/", Reason.HOST_NOT_ALLOWED),
    ("DELETE https://staging.team.corp.example/", Reason.RULE_DENY),
    ("GET https://gist.github.com/", Reason.HOST_NOT_ALLOWED),
    ("GET http://169.254.169.254/", Reason.RULE_DENY),
]


@pytest.mark.parametrize(("line", "reason"), MULTI_TENANT)
def test_multi_tenant_files_narrow_each_other(line: str, reason: Reason, machine: Machine) -> None:
    """Organization, team and sandbox together: the strictest wins."""
    folder = ROOT / "policies" / "multi-tenant"
    sources = [find_policy(f"{scope}={folder / scope}.yaml") for scope in ("org", "team", "sandbox")]
    loaded = load_policy(sources, machine=machine)
    assert loaded.warnings == ()
    assert ask(loaded, line).reason is reason

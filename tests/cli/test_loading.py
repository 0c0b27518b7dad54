"""Every command that loads a policy takes `[SCOPE=]FILE`, `--presets` and `--config`, and loads as `egress run`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from egress.cli.loading import find, surroundings
from egress.cli.main import app
from egress.config import ServerOverrides, load_server_config
from egress.errors import ConfigError
from egress.gate.build import load_generation
from egress.policy import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

PRESET = """\
version: 1
preset:
  title: ours
  allows: our mirror
  risks: none
rules:
  - name: our mirror
    allow: mirror.corp.example
"""
POLICY = 'version: 1\ninclude: [ours]\nrules:\n  - allow: api.corp.example\n    inject: {x-key: "${key}"}\n'
CONFIG = """\
policy: [policy.yaml]
scopes:
  org: [org.yaml]
presets: [presets]
secrets:
  key: {env: KEY, hosts: [api.corp.example]}
"""
CASES = "cases:\n  - {request: GET https://api.corp.example/, expect: allow}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's configuration, a policy that needs its secret and its preset, and an org's guard."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "ours.yaml").write_text(PRESET)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "org.yaml").write_text("version: 1\nrules:\n  - deny: api.corp.example\n    methods: [DELETE]\n")
    (tmp_path / "egress.yaml").write_text(CONFIG)
    (tmp_path / "cases.yaml").write_text(CASES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run `egress ...`."""
    return CliRunner().invoke(app, arguments)


COMMANDS = {
    "check": ("policy", "check", "policy.yaml"),
    "test": ("policy", "test", "cases.yaml", "--policy", "policy.yaml"),
    "diff": ("policy", "diff", "policy.yaml", "./policy.yaml"),
    "show": ("policy", "show", "--policy", "policy.yaml"),
    "fmt": ("policy", "fmt", "--check", "policy.yaml"),
    "export": ("policy", "export", "--format", "kubernetes", "--allow-widening", "--policy", "policy.yaml"),
    "explain": ("explain", "https://api.corp.example/", "--policy", "policy.yaml"),
    "allow": ("allow", "new.corp.example", "--policy", "policy.yaml", "--dry-run"),
    "deny": ("deny", "new.corp.example", "--policy", "policy.yaml", "--dry-run"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_knows_the_configurations_secrets_and_presets(command: str, folder: Path) -> None:
    """With `--config` it loads; without, the policy names a preset and a secret that nobody knows."""
    # No other tool's format has scopes.
    (folder / "egress.yaml").write_text(CONFIG.replace("scopes:\n  org: [org.yaml]\n", ""))
    alone = run(*COMMANDS[command])
    assert alone.exit_code != 0
    told = run(*COMMANDS[command], "--config", "egress.yaml")
    assert told.exit_code == 0, told.output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_folders_of_presets(command: str, folder: Path) -> None:
    """`--presets` alone is enough where the policy names no secret."""
    (folder / "policy.yaml").write_text("version: 1\ninclude: [ours]\nrules:\n  - allow: api.corp.example\n")
    assert run(*COMMANDS[command]).exit_code != 0
    told = run(*COMMANDS[command], "--presets", "presets")
    assert told.exit_code == 0, told.output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_scope_before_the_file(command: str, folder: Path) -> None:
    """And an unknown scope is told, not taken for a file's name."""
    (folder / "policy.yaml").write_text("version: 1\nrules:\n  - allow: api.corp.example\n")
    for scope, good in (("team", True), ("tema", False)):
        words = [word.replace("policy.yaml", f"{scope}=policy.yaml").replace("./", "") for word in COMMANDS[command]]
        result = run(*words)
        assert (result.exit_code == 0) is good, result.output


@pytest.mark.usefixtures("folder")
def test_policies_of_the_configuration_stand_beside_those_that_are_named() -> None:
    """As `egress run` loads them: a named one takes the place of the configuration's of its scope."""
    arguments = ("explain", "https://api.corp.example/", "--method", "DELETE", "--config", "egress.yaml", "--json")
    for named in ((), ("--policy", "policy.yaml")):
        answer = json.loads(run(*arguments, *named).stdout)
        assert (answer["reason"], [scope["scope"] for scope in answer["scopes"]]) == ("rule-deny", ["org", "sandbox"])
    around = surroundings()
    assert [source.scope for source in around.sources(find(["team=policy.yaml"]))] == [Scope.TEAM]


BROKEN = {
    "no rule": "version: 1\n",
    "a warning": "version: 1\nrules:\n  - allow: '**'\n",
    "a key that is unknown": "version: 1\nrulez: []\n",
    "a deny that never holds": "version: 1\nrules:\n  - allow: a.example.com\n  - deny: a.example.com\n",
    "a condition in a tunnel": "version: 1\ntls: tunnel\nrules:\n  - allow: a.example.com\n    methods: [GET]\n",
    "an unknown preset": "version: 1\ninclude: [nothing-of-this-name]\n",
    "a rule that has expired": "version: 1\nrules:\n  - allow: a.example.com\n    until: 2001-01-01T00:00:00Z\n",
    "report mode": "version: 1\nmode: report\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_check_refuses_what_a_reload_refuses_and_nothing_else(text: str, folder: Path) -> None:
    """One function judges for both; here is the proof at both ends."""
    (folder / "policy.yaml").write_text(text)
    config = load_server_config(folder / "egress.yaml", ServerOverrides(), {"EGRESS_STATE_DIR": str(folder)})
    try:
        load_generation(config, {"KEY": "value"})
        reloads = True
    except ConfigError:
        reloads = False
    assert (run("policy", "check", "--config", "egress.yaml").exit_code == 0) is reloads

"""`egress sandbox`: what it asks the proxy, and what it prints; and the words about sandboxes of other commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from egress.cli.main import app
from egress.server import control_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "sandboxes.md").read_text()
TENANTS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1]
SESSION = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[2]
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
    if "sandbox " in line
]
ADDED = {"done": True, "name": "ci-7", "token": "f" * 64, "expires": None, "listening": "127.0.0.1:3128"}
LISTED = {
    "listening": "127.0.0.1:3128",
    "sandboxes": [
        {
            "name": "batch",
            "sources": ["10.0.0.0/8"],
            "listener": None,
            "token": False,
            "labels": {},
            "registered": False,
            "ttl": None,
            "connections": 0,
        },
        {
            "name": "ci-7",
            "sources": ["10.9.0.0/16"],
            "listener": None,
            "token": True,
            "labels": {"team": "data"},
            "registered": True,
            "ttl": 3590.5,
            "connections": 3,
        },
    ],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """A proxy that answers so; the list grows with what it is asked."""
    monkeypatch.setenv("EGRESS_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def answering(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        requests: list[Mapping[str, Any]] = []

        def ask(_state: Path, request: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
            assert seconds > 0
            requests.append(request)
            return dict(answer)

        monkeypatch.setattr(control_client, "ask", ask)
        return requests

    return answering


type Asked = Callable[[Mapping[str, Any]], list[Mapping[str, Any]]]


def test_add_prints_how_clients_name_the_proxy(asked: Asked, tmp_path: Path) -> None:
    """One line, ready for an environment; the request is whole."""
    (tmp_path / "session.yaml").write_text(SESSION)
    requests = asked(ADDED)
    words = ["--source", "10.0.0.1", "--label", "team=data", "--policy", "session.yaml", "--ttl", "2h"]
    result = CliRunner().invoke(app, ["sandbox", "add", "ci-7", *words])
    assert (result.exit_code, result.stdout) == (0, f"HTTPS_PROXY=http://ci-7:{'f' * 64}@127.0.0.1:3128\n")
    assert requests == [
        {
            "command": "sandbox-add",
            "name": "ci-7",
            "sources": ["10.0.0.1"],
            "labels": {"team": "data"},
            "policy": SESSION,
            "ttl": 7200,
        }
    ]


def test_add_of_a_user_names_the_socket_and_the_token(asked: Asked) -> None:
    """There is no URL of a unix socket that clients know."""
    requests = asked(ADDED | {"listening": "unix:/run/egress/proxy.sock"})
    result = CliRunner().invoke(app, ["sandbox", "add", "ci-7", "--uid", "1001", "--uid", "1002"])
    assert result.stdout == f"listener unix:/run/egress/proxy.sock\ntoken    ci-7:{'f' * 64}\n"
    assert requests == [{"command": "sandbox-add", "name": "ci-7", "sources": [], "labels": {}, "uids": [1001, 1002]}]
    told = json.loads(CliRunner().invoke(app, ["sandbox", "add", "ci-7", "--uid", "1001", "--json"]).stdout)
    assert (told["proxy"], told["token"]) == ("unix:/run/egress/proxy.sock", "f" * 64)


def test_list_names_users_and_sockets(asked: Asked) -> None:
    """Beside the other ways to tell a client."""
    own = LISTED["sandboxes"][0] | {"sources": [], "uids": [7, 8], "listener": "unix:/run/p.sock"}  # type: ignore[index, operator]
    asked(LISTED | {"sandboxes": [own]})
    line = CliRunner().invoke(app, ["sandbox", "list"]).stdout.splitlines()[1]
    assert line.split() == ["batch", "uid=7", "uid=8", "unix:/run/p.sock", "-", "configured", "0"]


def test_add_says_what_is_wrong_and_exits_1(asked: Asked) -> None:
    """A line each, on standard error."""
    asked({"done": False, "problems": ["session of ci-7:3: rules[0]: one", "two"], "listening": "x"})
    result = CliRunner().invoke(app, ["sandbox", "add", "ci-7"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "egress: session of ci-7:3: rules[0]: one\negress: two\n"


@pytest.mark.parametrize("words", [["--ttl", "soon"], ["--ttl", "1y"], ["--label", "team"]])
def test_what_cannot_be_read_is_told_before_anything_is_asked(asked: Asked, words: list[str]) -> None:
    """The command line is wrong: exit 2."""
    requests = asked(ADDED)
    assert CliRunner().invoke(app, ["sandbox", "add", "ci-7", *words]).exit_code == 2
    assert requests == []


def test_list_is_a_table_for_people_and_json_for_programs(asked: Asked) -> None:
    """Name, source, labels, time left, connections."""
    asked(LISTED)
    result = CliRunner().invoke(app, ["sandbox", "list"])
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["NAME", "FROM", "LABELS", "TTL", "CONNECTIONS"],
        ["batch", "10.0.0.0/8", "-", "configured", "0"],
        ["ci-7", "10.9.0.0/16", "token", "team=data", "59m", "3"],
    ]
    assert json.loads(CliRunner().invoke(app, ["sandbox", "list", "--json"]).stdout) == LISTED
    asked({"listening": "x", "sandboxes": []})
    assert CliRunner().invoke(app, ["sandbox", "list"]).stdout == "no sandboxes\n"


def test_rm_says_how_many_connections_were_cut(asked: Asked) -> None:
    """And asks for that one alone."""
    requests = asked({"done": True, "name": "ci-7", "cut": 1, "listening": "x"})
    assert CliRunner().invoke(app, ["sandbox", "rm", "ci-7"]).stdout == "removed ci-7; 1 connection cut\n"
    assert requests == [{"command": "sandbox-rm", "name": "ci-7"}]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_guides_commands_run(asked: Asked, tmp_path: Path, line: str) -> None:
    """As they stand there."""
    (tmp_path / "tenants.yaml").write_text(TENANTS)
    (tmp_path / "session.yaml").write_text(SESSION)
    asked(LISTED | {"done": True, "cut": 0} | ADDED)
    result = CliRunner().invoke(app, line.split()[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_the_guides_commands_are_those_that_are_tried() -> None:
    """Explaining, showing, and the five of `egress sandbox`."""
    assert len(COMMANDS) == 7


def explain(tmp_path: Path, *words: str) -> dict[str, Any]:
    """What `egress explain --json` says under the guide's file."""
    path = tmp_path / "tenants.yaml"
    path.write_text(TENANTS)
    result = CliRunner().invoke(app, ["explain", "--json", "--policy", str(path), *words])
    assert result.stdout, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_explain_answers_for_the_sandbox_that_is_named(tmp_path: Path) -> None:
    """With its labels; for another name, or none, the answer is another one."""
    url = "https://ci-7.buckets.corp.example/"
    assert explain(tmp_path, url, "--sandbox", "ci-7")["verdict"] == "allow"
    assert explain(tmp_path, url, "--sandbox", "ci-8")["verdict"] == "deny"
    assert explain(tmp_path, url)["verdict"] == "deny"
    registry = "https://registry.corp.example/"
    assert explain(tmp_path, registry, "--sandbox", "x", "--label", "team=build")["verdict"] == "allow"
    assert explain(tmp_path, registry, "--sandbox", "x", "--label", "team=data")["verdict"] == "deny"


def test_a_denial_that_cannot_be_filled_in_is_told_with_its_line(tmp_path: Path) -> None:
    """In place of an answer that would be wrong."""
    path = tmp_path / "p.yaml"
    path.write_text('version: 1\nrules:\n  - deny: "${sandbox.label.team}.corp.test"\n')
    result = CliRunner().invoke(app, ["explain", "https://a.test", "--policy", str(path), "--sandbox", "a"])
    assert "has no label `team`" in str(result.exception)


def test_show_writes_a_policy_out_for_a_sandbox(tmp_path: Path) -> None:
    """Its values in place of the templates; without a sandbox the file's own words."""
    path = tmp_path / "tenants.yaml"
    path.write_text(TENANTS)
    words = ["policy", "show", "--policy", str(path)]
    plain = CliRunner().invoke(app, words).stdout
    own = CliRunner().invoke(app, [*words, "--sandbox", "ci-7", "--label", "team=data"]).stdout
    assert "${sandbox.name}.buckets.corp.example" in plain
    assert "sandboxes" in plain
    assert "ci-7.buckets.corp.example" in own
    assert "/teams/data/**" in own
    assert "registry" not in own


def test_check_with_a_configuration_checks_each_sandboxs_files(tmp_path: Path) -> None:
    """And whether every template can be filled in."""
    (tmp_path / "tenants.yaml").write_text(TENANTS)
    (tmp_path / "own.yaml").write_text("version: 1\nrules:\n  - alow: a.test\n")
    text = (
        "policy: [./tenants.yaml]\nsandboxes:\n"
        "  a: {{source: 10.0.0.1, labels: {{team: x}}{own}}}\n  b: {{source: 10.0.0.2{label}}}\n"
    )
    config = tmp_path / "egress.yaml"

    def check(own: str, label: str) -> tuple[int, str]:
        config.write_text(text.format(own=own, label=label))
        result = CliRunner().invoke(app, ["policy", "check", "--config", str(config)])
        return result.exit_code, result.output

    assert check("", ", labels: {team: y}")[0] == 0
    status, told = check("", "")
    assert status == 1
    assert "has no label" in told
    status, told = check(", policy: [./own.yaml]", ", labels: {team: y}")
    assert status == 1
    assert "alow" in told

"""`egress policy check` and `egress policy schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from egress.cli import policy

if TYPE_CHECKING:
    from click.testing import Result

app = typer.Typer()
policy.register(app)


@app.callback()
def root() -> None:
    """Make `policy` a group beside others, as it is in the real tree."""


def run(*arguments: str) -> Result:
    """Run `egress policy ...`."""
    return CliRunner().invoke(app, ["policy", *arguments])


def test_good_files_are_ok_with_their_count(tmp_path: Path) -> None:
    """One line a file on standard output, exit 0."""
    path = tmp_path / "one.yaml"
    path.write_text("version: 1\nrules:\n  - allow: a.example.com\n")
    result = run("check", str(path), "deny-all", "coding-agent")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{path}: ok (1 rule)",
        "deny-all: ok (0 rules)",
        "coding-agent: ok (19 rules)",
    ]
    assert result.stderr == ""


def test_problems_of_every_file_go_to_standard_error(tmp_path: Path) -> None:
    """Exit 1; a good file between bad ones is still ok."""
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text("version: 1\nrules:\n  - allow: a.example.com\n    port: 1\n  - deny: '*'\n")
    good.write_text("version: 1\n")
    result = run("check", str(bad), str(good), "nothing-of-this-name", str(tmp_path / "none.yaml"))
    assert result.exit_code == 1
    assert result.stdout == f"{good}: ok (0 rules)\n"
    lines = result.stderr.splitlines()
    assert lines[0] == f"{bad}:4: rules[0].port: unknown key, did you mean `ports`?"
    assert lines[1].startswith(f"{bad}:5: rules[1].deny: `*` is not a target")
    assert lines[2].startswith("nothing-of-this-name: no shipped policy has this name")
    assert lines[3].startswith(f"{tmp_path}/none.yaml: no such file")


def test_warnings_are_told_and_the_file_is_ok(tmp_path: Path) -> None:
    """A doubtful file can be used, so the exit code is 0."""
    path = tmp_path / "wide.yaml"
    path.write_text("version: 1\nrules:\n  - allow: '**'\n")
    result = run("check", str(path))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {path}:3: rules[0].allow: `**` allows every host there is")


def test_check_needs_a_file() -> None:
    """Nothing to check is a usage error, not a success."""
    assert run("check").exit_code == 2


def test_schema_is_json_and_the_committed_one() -> None:
    """What is printed is what editors are given."""
    result = run("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"] == "egress policy"
    assert result.stdout == (Path(__file__).parents[2] / "schema" / "policy.schema.json").read_text()


@pytest.mark.parametrize("command", [[], ["check"], ["schema"]])
def test_help_shows_what_there_is(command: list[str]) -> None:
    """Examples for each command."""
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "egress policy" in result.stdout or not command

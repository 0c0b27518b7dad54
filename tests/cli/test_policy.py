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
    result = run("check", str(path), "deny-all", "starter")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{path}: ok (1 rule)", "deny-all: ok (0 rules)", "starter: ok (3 rules)"]
    assert result.stderr == ""


def test_findings_stand_below_their_file_with_line_code_and_hint(tmp_path: Path) -> None:
    """Exit 1; a good file between bad ones is still ok."""
    bad, good, none = tmp_path / "bad.yaml", tmp_path / "good.yaml", tmp_path / "none.yaml"
    bad.write_text("version: 1\nrules:\n  - allow: a.example.com\n    port: 1\n  - deny: '*.com'\n")
    good.write_text("version: 1\n")
    result = run("check", str(bad), str(good), "nothing-of-this-name", str(none))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split(maxsplit=3) for line in lines[1:2]] == [["4", "error", "E003", "rules[0].port: unknown key"]]
    assert (lines[0], lines[2].strip()) == (str(bad), "did you mean `ports`?")
    assert lines[3].startswith("    5  error    E003  rules[1].deny: `*.com`")
    assert f"{bad}: refused (2 errors)" in lines
    assert f"{good}: ok (0 rules)" in lines
    assert "nothing-of-this-name: refused (1 error)" in lines
    assert f"{none}: refused (1 error)" in lines


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--strict",), 1)])
def test_warnings_are_told_and_count_with_strict(tmp_path: Path, flags: tuple[str, ...], code: int) -> None:
    """A doubtful file can be used; who wants none of them says so."""
    path = tmp_path / "wide.yaml"
    path.write_text("version: 1\nrules:\n  - allow: '**'\n")
    result = run("check", *flags, str(path))
    assert result.exit_code == code
    assert "    3  warning  W201  rules[0].allow: `**` allows every host there is" in result.stdout
    assert result.stdout.splitlines()[-1] == f"{path}: ok (1 rule, 1 warning)"


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

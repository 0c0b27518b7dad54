"""The examples of the guide to the tools around a policy are what the commands print."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from documents import ROOT
from typer.testing import CliRunner

from egress.cli.main import app
from egress.config.case_files import _CaseModel

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = (ROOT / "docs" / "guides" / "policy-tools.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)
RUNS = re.findall(r"```sh\n([^\n]+)\n```\n\n<!-- output: exit (\d) -->\n```text\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the guide, in the folder in which a reader tries it."""
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("line", "code", "shown"), RUNS, ids=[line for line, _, _ in RUNS])
def test_a_command_of_the_guide_prints_what_stands_below_it(line: str, code: str, shown: str) -> None:
    """Word for word, with its exit status."""
    result = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert [text.rstrip() for text in result.output.splitlines()] == shown.splitlines()
    assert result.exit_code == int(code)


def test_the_guide_shows_every_tool() -> None:
    """A tool that is not there is one that nobody finds; so is a key of a case."""
    words = {shlex.split(line)[2] if " policy " in line else "explain" for line, _, _ in RUNS}
    assert words >= {"explain", "test", "diff", "show"}
    assert all(f"`egress policy {tool}`" in GUIDE for tool in ("check", "test", "diff", "show", "fmt", "schema"))
    assert [key for key in _CaseModel.model_fields if f"`{key}`" not in GUIDE] == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", [name for name, _ in FILES if name != "cases.yaml"])
def test_policies_of_the_guide_are_laid_out_and_hold(name: str) -> None:
    """They pass what the guide recommends."""
    assert CliRunner().invoke(app, ["policy", "fmt", "--check", name]).exit_code == 0
    assert CliRunner().invoke(app, ["policy", "check", "--strict", name]).exit_code == 0

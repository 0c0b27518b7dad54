"""The examples of the guides on editing and conversion are what the commands do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks
from records import denied, record
from typer.testing import CliRunner

from egress.cli.main import app
from egress.review.convert import EXPORTS, IMPORTS

if TYPE_CHECKING:
    from pathlib import Path

    from documents import Block

EDITING = ROOT / "docs" / "guides" / "editing.md"
CONVERSION = ROOT / "docs" / "guides" / "conversion.md"


def texts(document: Path, kind: str) -> list[str]:
    """Give the blocks of one kind."""
    return [block.text for block in blocks(document, kind)]


def run(line: str) -> str:
    """Run a command line of a guide, and give its standard output."""
    words = shlex.split(line.partition(">")[0])
    result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader tries the examples."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guides_edit_is_what_the_command_does(folder: Path) -> None:
    """The diff, the place, the verdict and the note, word for word."""
    (folder / "policy.yaml").write_text(texts(EDITING, "yaml")[0])
    told = run(f"{texts(EDITING, 'sh')[0].strip()} --yes")
    assert told == (
        "--- policy.yaml\n+++ policy.yaml\n"
        f"{texts(EDITING, 'diff')[0]}{texts(EDITING, 'text')[0]}written to policy.yaml\n"
    )


def test_the_guides_rule_from_an_id_is_what_the_command_gives(folder: Path) -> None:
    """Only the lines that are added: the rest of the diff depends on the file."""
    (folder / "policy.yaml").write_text("version: 1\n")
    line = texts(EDITING, "sh")[1].strip()
    record(folder / "state" / "audit.db", denied(id=shlex.split(line)[2]))
    told = run(f"{line} --state-dir state --yes")
    assert texts(EDITING, "diff")[1] in told


def block_after(marks: list[Block], heading: str) -> list[str]:
    """Give the blocks that stand below a heading."""
    text = CONVERSION.read_text()
    start = text.count("\n", 0, text.index(heading))
    end = text.find("\n## ", text.index(heading) + 1)
    stop = text.count("\n") if end < 0 else text.count("\n", 0, end)
    return [block.text for block in marks if start < block.line <= stop]


def test_the_guides_conversions_are_what_the_commands_print(folder: Path) -> None:
    """Each input gives the output that the guide shows below it."""
    azure, policy = block_after(blocks(CONVERSION, "yaml"), "## Azure")
    (folder / "egress-policy.yaml").write_text(azure)
    assert run("egress policy import --format azure-container-apps egress-policy.yaml") == policy
    (settings,) = block_after(blocks(CONVERSION, "json"), "## Claude")
    (policy,) = block_after(blocks(CONVERSION, "yaml"), "## Claude")
    (folder / "settings.json").write_text(settings)
    assert run("egress policy import --format claude-code settings.json") == policy
    policy, network = block_after(blocks(CONVERSION, "yaml"), "## Kubernetes")
    (folder / "policy.yaml").write_text(policy)
    assert run("egress policy export --format kubernetes --policy policy.yaml") == network


def test_every_format_is_in_the_guide() -> None:
    """A format that the guide does not name is one that nobody finds."""
    guide = CONVERSION.read_text()
    assert [form for form in {*IMPORTS, *EXPORTS} if f"`{form}`" not in guide] == []

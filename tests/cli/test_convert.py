"""`egress policy import` and `egress policy export`: what goes where, and when nothing is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from egress.cli import policy
from egress.errors import EgressError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

app = typer.Typer()
policy.register(app)


@app.callback()
def root() -> None:
    """Make `policy` a group beside others, as it is in the real tree."""


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run `egress policy ...`."""
    return CliRunner().invoke(app, ["policy", *map(str, arguments)], input=stdin)


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """A policy whose `deny` no list of domains can say, and whose default allows."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\ndefault: allow\nrules:\n  - deny: 10.0.0.0/8\n")
    return path


def test_an_import_prints_a_policy_and_its_losses(tmp_path: Path) -> None:
    """The policy to standard output, each loss with its line to standard error."""
    path = tmp_path / "settings.json"
    path.write_text('{\n"network": {\n"allowedDomains": ["a.example.com",\n"*.com"]}}\n')
    result = run("import", "--format", "sandbox-runtime", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("rules:\n  - allow: [a.example.com]\n")
    assert result.stderr.startswith(f"{path}:4: left out: `*.com` covers names that anyone can register")
    assert run("import", "--format", "sandbox-runtime", "-", stdin=path.read_bytes()).stdout == result.stdout


def test_strict_prints_nothing_where_something_was_lost(tmp_path: Path) -> None:
    """Exit 1, with the losses; a conversion without any prints."""
    path = tmp_path / "azure.yaml"
    path.write_text("defaultAction: Deny\nrules:\n  - match: {host: a.example.com}\n    action: {type: Allow}\n")
    whole = run("import", "--strict", "--format", "azure-container-apps", path)
    assert (whole.exit_code, "- allow: a.example.com" in whole.stdout) == (0, True)
    path.write_text("trafficInspection: Partial\n")
    lost = run("import", "--strict", "--format", "azure-container-apps", path)
    assert (lost.exit_code, lost.stdout) == (1, "")
    assert "something was lost" in lost.stderr


def test_nothing_wider_is_printed_unless_it_is_asked_for(write: Path) -> None:
    """And then it says so in the report."""
    refused = run("export", "--format", "azure-container-apps", "--policy", write)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"{write}:4: wider: " in refused.stderr
    assert "add `--allow-widening`" in refused.stderr
    asked = run("export", "--format", "azure-container-apps", "--policy", write, "--allow-widening")
    assert asked.exit_code == 0
    assert asked.stdout.startswith("defaultAction: Allow\n")
    assert f"{write}:4: wider: " in asked.stderr


def test_an_export_needs_a_policy() -> None:
    """Without one the command line is wrong."""
    assert run("export", "--format", "cilium").exit_code == 2


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Missing, or no text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, said in (("none", "cannot be read"), ("binary", "is not UTF-8")):
        result = run("import", "--format", "claude-code", tmp_path / name)
        assert isinstance(result.exception, EgressError)
        assert said in str(result.exception)


def test_a_text_that_would_not_load_is_never_printed(tmp_path: Path) -> None:
    """A method that is no token comes in as it is, and the loader refuses it."""
    path = tmp_path / "azure.yaml"
    path.write_text("rules:\n  - match: {host: a.example, methods: ['a b']}\n    action: {type: Allow}\n")
    result = run("import", "--format", "azure-container-apps", path)
    assert isinstance(result.exception, EgressError)
    assert f"{path}, imported: rules[0].methods[0]: `A B` is not an HTTP method" in str(result.exception)
    assert result.stdout == ""

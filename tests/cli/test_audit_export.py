"""`egress audit export`: every format from the command line, and files that are there whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import stat
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks
from typer.testing import CliRunner

from egress.audit import AuditWriter, DecisionEvent, OutcomeEvent
from egress.cli.audit_export import whole_file
from egress.cli.main import app
from egress.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

NOW_US = 1_790_000_000_000_000
GUIDE = ROOT / "docs" / "guides" / "audit.md"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A record of three requests, of which one was denied."""
    folder = tmp_path / "state"
    writer = AuditWriter(folder / "audit.db", flush_interval=0.02)
    writer.start()
    for number, host in enumerate(("api.example.com", "evil.test", "api.example.com")):
        verdict = "deny" if host == "evil.test" else "allow"
        common = {"sandbox": "ci", "client": "127.0.0.1:1", "method": "GET", "path": "/=1", "port": 443}
        told = {"verdict": verdict, "reason": f"rule-{verdict}", "host": host, **common}
        assert writer.offer(DecisionEvent(id=f"id-{number}", time_us=NOW_US + number, **told))  # type: ignore[arg-type]
        assert writer.offer(OutcomeEvent(id=f"id-{number}", time_us=NOW_US + number, status=200))
    assert writer.close(10)
    return folder


def run(state: Path, *arguments: str) -> Result:
    """Run `egress audit export` on that record."""
    return CliRunner().invoke(app, ["audit", "export", "--state-dir", str(state), *arguments])


def test_every_format_comes_from_the_command_line(state: Path) -> None:
    """All rows without a filter, oldest first."""
    lines = run(state).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["id-0", "id-1", "id-2"]
    table = list(csv.DictReader(io.StringIO(run(state, "--format", "csv").stdout)))
    assert [row["id"] for row in table] == ["id-0", "id-1", "id-2"]
    events = [json.loads(line) for line in run(state, "--format", "ocsf").stdout.splitlines()]
    assert [event["action_id"] for event in events] == [1, 2, 1]
    log = json.loads(run(state, "--format", "har").stdout)["log"]
    assert [entry["request"]["url"] for entry in log["entries"]][1] == "https://evil.test/=1"


def test_json_lines_are_those_of_the_audit_command(state: Path) -> None:
    """A program that reads the one reads the other."""
    shown = CliRunner().invoke(app, ["audit", "--state-dir", str(state), "--json"]).stdout
    assert run(state, "--format", "jsonl").stdout == shown


@pytest.mark.parametrize(
    "arguments",
    [("--filter", "verdict:deny"), ("--verdict", "deny"), ("--host", ".test"), ("--filter", "evil", "--sandbox", "ci")],
)
def test_filters_hold_as_everywhere(state: Path, arguments: tuple[str, ...]) -> None:
    """The language, and its shorthands."""
    (line,) = run(state, *arguments).stdout.splitlines()
    assert json.loads(line)["id"] == "id-1"


def test_a_file_is_for_its_owner_and_compressed_by_its_name(state: Path, tmp_path: Path) -> None:
    """Mode 0600, nothing left beside it, and the same rows whichever way."""
    plain, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
    for path in (plain, packed):
        result = run(state, "--output", str(path))
        assert (result.exit_code, result.stdout) == (0, "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert plain.read_text() == run(state).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "rows.jsonl.gz", "state"]


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    """What fails half-way leaves the last export, and no half of the new one."""
    path = tmp_path / "rows"
    path.write_text("before")

    def fail() -> None:
        with whole_file(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with whole_file(path) as file:
        file.write("after\r\n")
    assert path.read_bytes() == b"after\r\n"


def test_a_link_in_the_files_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Whoever guesses the name cannot have us write elsewhere."""
    (tmp_path / "other").write_text("other")
    path = tmp_path / "rows"
    path.symlink_to(tmp_path / "other")
    with whole_file(path) as file:
        file.write("rows")
    assert (tmp_path / "other").read_text() == "other"
    assert not path.is_symlink()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """In a sentence, before anything is read."""
    with pytest.raises(StateError, match="cannot write"), whole_file(tmp_path / "none" / "rows"):
        pass


def test_the_guides_examples_run(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of the section on exports gives what it says, and every format is there."""
    monkeypatch.chdir(tmp_path)
    lines = [
        line.partition("#")[0].partition(" > ")[0].strip()
        for block in blocks(GUIDE, "sh")
        for line in block.text.splitlines()
        if line.startswith("egress audit export")
    ]
    assert {shlex.split(line)[4] for line in lines if "--format" in line} == {"csv", "ocsf", "har"}
    for line in lines:
        result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--state-dir", str(state)])
        assert result.exit_code == 0, result.output

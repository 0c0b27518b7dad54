"""`egress audit --events` and `--group`: what a person and a program see of events and of repeats."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from egress.audit import AuditReader, AuditWriter, DecisionEvent
from egress.cli.audit import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

HOSTILE = "the file\x1b[2J\n\u202ewas"
RUN = """
import typer
from egress.cli.audit import register
app = typer.Typer()
app.callback()(lambda: None)
register(app)
app()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AuditWriter]:
    """A writer with three events and six requests, five of them alike."""
    writer = AuditWriter(tmp_path / "audit.db", flush_interval=0.02)
    writer.start()
    for kind, detail in (("start", "listening"), ("reload", "ab to cd"), ("replaced", HOSTILE)):
        assert writer.note(kind, detail)
    now = time.time_ns() // 1000
    for number in range(6):
        count = 40 if number == 4 else 1
        host = "other.test" if number == 0 else "api.test"
        assert writer.offer(
            DecisionEvent(
                id=f"id-{number}",
                time_us=now + number,
                sandbox="a",
                client="c",
                verdict="deny",
                reason="host-not-allowed",
                host=host,
                count=count,
            )
        )
    assert writer.flush(5)
    yield writer
    writer.close(5)


@pytest.fixture
def run(writer: AuditWriter) -> Callable[..., Result]:
    """Run the command on the writer's database."""
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return lambda *arguments: CliRunner().invoke(app, ["audit", "--audit", str(writer.path), *arguments])


def _on_a_terminal(path: Path, *arguments: str) -> str:
    """What the command prints on a terminal of 70 columns."""
    ours, its = pty.openpty()
    command = [sys.executable, "-c", RUN, "audit", "--audit", str(path), *arguments]
    environment = os.environ | {"COLUMNS": "70", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            printed += part
        assert process.wait(10) == 0, printed
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.decode())


def test_events_are_lines_with_tabs(run: Callable[..., Result]) -> None:
    """Time, id, kind, detail; the newest last, and as many as are asked for."""
    lines = [line.split("\t") for line in run("--events").stdout.splitlines()]
    assert [line[2:] for line in lines[:2]] == [["start", "listening"], ["reload", "ab to cd"]]
    assert [len(line) for line in lines] == [4, 4, 4]
    assert "\x1b" not in lines[2][3]
    assert [line.split("\t")[2] for line in run("--events", "--limit", "1").stdout.splitlines()] == ["replaced"]
    assert run("--events", "--since", "2099-01-01T00:00:00Z").stdout == ""


def test_events_are_json(run: Callable[..., Result]) -> None:
    """Every column, and the time for people."""
    rows = [json.loads(line) for line in run("--events", "--json").stdout.splitlines()]
    assert set(rows[0]) == {"time", "seq", "id", "time_us", "kind", "detail"}
    assert "was" in rows[2]["detail"]


def test_events_are_a_table_on_a_terminal(writer: AuditWriter) -> None:
    """With titles, and nothing that moves the cursor."""
    printed = _on_a_terminal(writer.path, "--events")
    assert re.search(r"time +event +detail", printed)
    assert re.search(r"\d\d-\d\d \d\d:\d\d:\d\d +reload +ab to cd", printed)
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    "more", [("--host", "x"), ("--filter", "-since:1h"), ("--filter", "text"), ("--group",), ("--fail-on-deny",)]
)
def test_what_asks_about_requests_is_refused_beside_events(more: tuple[str, ...], run: Callable[..., Result]) -> None:
    """It would do nothing, and nobody would notice."""
    assert run("--events", *more).exit_code == 2


def test_repeats_are_one_line_with_their_count(run: Callable[..., Result]) -> None:
    """The last column, in lines and in JSON; without the flag each row is a line."""
    assert [line.split("\t")[-1] for line in run("--group").stdout.splitlines()] == ["1", "44"]
    assert [json.loads(line)["count"] for line in run("--group", "--json").stdout.splitlines()] == [1, 44]
    assert [line.split("\t")[-1] for line in run().stdout.splitlines()] == ["1", "1", "1", "1", "40", "1"]


def test_the_table_tells_the_count_beside_the_verdict(writer: AuditWriter) -> None:
    """Where it is more than one."""
    printed = _on_a_terminal(writer.path, "--group")
    assert "deny x44" in printed
    assert "2 rows" in printed


def test_figures_count_decisions_not_rows(writer: AuditWriter) -> None:
    """45 denials in 6 rows: in the summary, and in what a policy is asked again."""
    with AuditReader(writer.path) as reader:
        summary = reader.summary()
        assert (summary.count, summary.refused) == (45, 45)
        assert {group.what: group.count for group in summary.groups["hosts"]} == {("api.test",): 44, ("other.test",): 1}
        assert sum(row.count for row in reader.asked()) == 45

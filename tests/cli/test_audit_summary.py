"""`egress audit summary` and `sql`: figures that add up, hostile text made harmless, and exit statuses for CI."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from egress.audit import AuditWriter, DecisionEvent, OutcomeEvent
from egress.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

HOUR_US = 3_600_000_000
NOW_US = 1_790_000_000_000_000
HOSTILE = "\x1b[31m`<b>|\u202e"

POLICY = """\
version: 1
rules:
  - name: used
    allow: api.example.com
  - name: idle
    allow: other.example.com
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A record of two hours, and the policy that it is of."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    writer = AuditWriter(tmp_path / "audit.db", flush_interval=0.02)
    writer.start()
    rule = {
        "file": str(tmp_path / "policy.yaml"),
        "line": 3,
        "rule": "used",
        "verdict": "allow",
        "reason": "rule-allow",
    }
    deny = {"verdict": "deny", "reason": "host-not-allowed"}
    rows: list[dict[str, object]] = [
        {"host": "api.example.com", "secrets": ("github",), **rule},
        {"host": "api.example.com", "secrets": ("github", "other"), **rule},
        {"host": "evil.test", **deny},
        {"host": HOSTILE, "sandbox": HOSTILE, "time_us": NOW_US + 2 * HOUR_US, **deny},
        {"host": "api.example.com", "sandbox": "ci", "time_us": NOW_US + 2 * HOUR_US, **rule},
    ]
    common = {"sandbox": "agent", "client": "127.0.0.1:1", "method": "GET", "port": 443, "time_us": NOW_US}
    for number, row in enumerate(rows):
        assert writer.offer(DecisionEvent(**({"id": f"id-{number}"} | common | row)))  # type: ignore[arg-type]
        assert writer.offer(OutcomeEvent(id=f"id-{number}", time_us=NOW_US, bytes_up=100, bytes_down=900))
    assert writer.note("start", HOSTILE)
    assert writer.close(10)
    return tmp_path


def _run(state: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(app, ["audit", command, "--state-dir", str(state), *rest])


def test_the_figures_add_up(state: Path) -> None:
    """By verdict, host, rule, sandbox and secret; a row with two secrets counts for both."""
    told = json.loads(_run(state, "summary", "--format", "json").output)
    assert (told["requests"], told["refused"]) == (5, 2)
    figures = {
        name: {tuple(group["what"]): (group["requests"], group["refused"], group["bytes"]) for group in told[name]}
        for name in ("verdicts", "hosts", "rules", "sandboxes", "secrets", "denied")
    }
    assert figures["verdicts"] == {("allow",): (3, 0, 3000), ("deny",): (2, 2, 2000)}
    assert figures["hosts"]["api.example.com",] == (3, 0, 3000)
    assert figures["rules"] == {(str(state / "policy.yaml"), "3", "used"): (3, 0, 3000)}
    assert figures["sandboxes"]["ci",] == (1, 0, 1000)
    assert figures["secrets"] == {("github",): (2, 0, 2000), ("other",): (1, 0, 1000)}
    assert figures["denied"]["host-not-allowed", "GET", "evil.test", "443"] == (1, 1, 1000)


def test_hosts_that_are_new_since(state: Path) -> None:
    """Those that nobody had asked for before; without `since` there is no before."""
    since = "2026-09-21T14:30:00Z"
    told = json.loads(_run(state, "summary", "--format", "json", "--since", since).output)
    assert told["requests"] == 2
    (new,) = told["new_hosts"]
    assert "x1b" in new
    assert json.loads(_run(state, "summary", "--format", "json").output)["new_hosts"] == []


@pytest.mark.parametrize("output_format", ["table", "markdown"])
def test_ever_new_hosts_fill_no_page(state: Path, output_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are named, and all are counted: a page that grows without end is not shown at all."""
    monkeypatch.setattr("egress.cli.summary_text._HOSTS_AT_MOST", 1)
    since = ("--since", "2026-09-21T00:00:00Z")
    told = json.loads(_run(state, "summary", "--format", "json", *since).output)["new_hosts"]
    output = _run(state, "summary", "--format", output_format, *since).output
    assert f"New hosts ({len(told):,}; the first 1 by name" in output
    listed = output.split("New hosts")[1].splitlines()[1:]
    assert len([line for line in listed if line.strip()]) == 1
    assert len(told) > 1


def test_rules_that_never_spoke(state: Path) -> None:
    """By file and line, with --policy."""
    ran = _run(state, "summary", "--policy", str(state / "policy.yaml"))
    assert "Rules that never spoke (1)" in ran.output
    assert f"{state}/policy.yaml:5 idle" in ran.output
    assert "never spoke" not in _run(state, "summary").output


@pytest.mark.parametrize("output_format", ["table", "markdown"])
def test_hostile_text_is_made_harmless(state: Path, output_format: str) -> None:
    """No escape sequence, no bidi control; in Markdown no bar and no tick ends a cell."""
    output = _run(state, "summary", "--format", output_format).output
    assert "evil.test" in output
    assert "\x1b" not in output
    assert "\u202e" not in output
    if output_format == "markdown":
        (line,) = [line for line in output.splitlines() if "x1b" in line and line.count("GET")]
        assert line.count("|") - line.count("\\|") == 6
        assert "`` " in line


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("summary", "--fail-on-deny"), 1),
        (("summary", "--fail-on-deny", "--filter", "host:api.example.com"), 0),
        (("summary",), 0),
    ],
)
def test_the_exit_status_for_ci(state: Path, arguments: tuple[str, ...], status: int) -> None:
    """1 where something that meets the filter was refused."""
    assert _run(state, *arguments).exit_code == status


def test_rows_fail_a_job_as_well(state: Path) -> None:
    """`egress audit --fail-on-deny`, also where the refused row is not among those shown."""
    base = ["audit", "--state-dir", str(state), "--fail-on-deny"]
    assert CliRunner().invoke(app, [*base, "--limit", "1"]).exit_code == 1
    assert CliRunner().invoke(app, [*base, "--filter", "verdict:allow"]).exit_code == 0
    assert CliRunner().invoke(app, [*base, "--follow"]).exit_code == 2


def test_no_rows_is_said(state: Path) -> None:
    """In each format."""
    assert _run(state, "summary", "--host", "nowhere.test").output == "No rows.\n"


def test_sql_in_each_format(state: Path) -> None:
    """A table, CSV that a reader of CSV reads, JSON lines; nothing hostile in any."""
    statement = "SELECT kind, detail, NULL AS empty, x'0aff' AS bytes FROM events WHERE kind = 'start'"
    table = _run(state, "sql", statement).output
    assert table.splitlines()[0].split() == ["kind", "detail", "empty", "bytes"]
    rows = list(csv.reader(io.StringIO(_run(state, "sql", statement, "--format", "csv").output)))
    assert rows[0] == ["kind", "detail", "empty", "bytes"]
    assert rows[1][0] == "start"
    assert rows[1][2:] == ["", "0aff"]
    told = json.loads(_run(state, "sql", statement, "--format", "json").output)
    assert (told["empty"], told["bytes"]) == (None, "0aff")
    for output_format in ("table", "csv", "json"):
        assert "\x1b" not in _run(state, "sql", statement, "--format", output_format).output


def test_no_cell_of_a_statement_is_a_formula(state: Path) -> None:
    """As in the export: a query or a method may begin with what a spreadsheet runs; a number stays one."""
    statement = "SELECT '=cmd|''/C calc''!A0' AS a, '@SUM(1)=***' AS \"=b\", -1 AS c, ' +1' AS d"
    names, row = csv.reader(io.StringIO(_run(state, "sql", statement, "--format", "csv").output))
    assert names == ["a", "'=b", "c", "d"]
    assert row == ["'=cmd|'/C calc'!A0", "'@SUM(1)=***", "-1", "' +1"]


def test_a_function_without_an_end_is_ended(state: Path) -> None:
    """SQLite looks at the time between two steps, and this is one."""
    long = "replace(hex(zeroblob({}000000)), '0', 'a')"
    statement = f"SELECT instr({long.format(2)}, {long.format(1)} || 'b')"
    command = [sys.executable, "-c", "from egress.cli.main import main; main()", "audit", "sql", statement]
    command += ["--state-dir", str(state), "--timeout", "0.2"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "egress: the statement took over 0.2 seconds, and was ended\n"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM decisions", "only reading is allowed"),
        ("DROP TRIGGER decisions_no_delete", "only reading is allowed"),
        ("PRAGMA writable_schema = ON", "only reading is allowed"),
        ("ATTACH '/tmp/other.db' AS other", "only reading is allowed"),
        ("VACUUM INTO '/tmp/copy.db'", "only reading is allowed"),
        ("SELECT load_extension('x')", "not authorized"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT * FROM missing", "no such table"),
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c", "took over 0.2 s"),
    ],
)
def test_sql_only_reads_and_ends(state: Path, statement: str, message: str) -> None:
    """What would write, open another file or never end is refused with what to do."""
    ran = _run(state, "sql", statement, "--timeout", "0.2")
    assert ran.exit_code == 1
    assert message in str(ran.exception)

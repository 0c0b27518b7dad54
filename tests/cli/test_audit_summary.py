"""`egress audit summary`: figures that add up, hostile text made harmless, and exit statuses for CI."""

from __future__ import annotations

import json
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

"""`egress explain` in full: every rule that was tried and why it did not match, and rows of the audit told again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from records import TIME_US, denied, record
from typer.testing import CliRunner

from egress.audit import OutcomeEvent
from egress.cli.audit_desk import PolicyDesk
from egress.cli.explain_row import row_named
from egress.cli.loading import surroundings
from egress.cli.main import app
from egress.errors import EgressError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

ROW = "01j0000000000000000000000a"
CONNECT = "01j0000000000000000000000b"
ORG = """\
version: 1
secrets:
  key: {env: KEY, hosts: [api.example.com]}
rules:
  - deny: .example.com
    headers: [x-internal]
"""
POLICY = """\
version: 1
rules:
  - deny: api.example.com
    methods: [DELETE]
  - name: open ones
    allow: api.example.com
    query: [state=open]
    until: 2030-01-01T00:00:00Z
    addresses: [10.0.0.0/8]
    inject: {x-api-key: "${key}"}
    annotate: {ticket: OPS-1}
  - allow: api.example.com:8443
  - allow: .example.com
    paths: [/v1/**]
  - allow: elsewhere.example
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both policies, and an audit of two rows."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "org.yaml").write_text(ORG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def audit(folder: Path) -> Path:
    """The audit of a request that was denied, and of a CONNECT that was refused before it named a host."""
    path = folder / "audit.db"
    rule = {"rule": "open ones", "file": "policy.yaml", "line": 5, "scope": "sandbox", "lane": "http"}
    nothing = dict.fromkeys(("host", "port", "method", "path", "protocol"))
    ended = {"time_us": TIME_US + 1_500, "bytes_up": 10, "bytes_down": 20, "duration_us": 1500}
    record(
        path,
        denied(id=ROW, sandbox="ci", reason="query-not-allowed", method="GET", path="/v2", **rule),
        OutcomeEvent(id=ROW, status=403, **ended),
        denied(id=CONNECT, sandbox="ci", reason="request-malformed", detail="\x1b[2J", **nothing),
    )
    return path


def run(*arguments: str) -> Result:
    """Run `egress explain ...` with both policies."""
    return CliRunner().invoke(app, ["explain", *arguments])


def asked(*arguments: str) -> dict[str, object]:
    """The answer as values."""
    both = ("--policy", "org=org.yaml", "--policy", "policy.yaml", "--json")
    found = json.loads(run("https://api.example.com/v2", *arguments, *both).stdout)
    assert isinstance(found, dict)
    return found


# The options, and the outcome and why of each rule of the file that names the host, in order.
TRIED = [
    (
        (),
        ["the method is GET, the rule has methods: DELETE", "the query does not have", "the port is 443", "/v1/**"],
        "query-not-allowed",
    ),
    (("--query", "state=open"), ["the method is", "all of its conditions hold", *["a rule before"] * 2], "rule-allow"),
    (
        ("--query", "state=open", "--at", "2031-01-01T00:00:00+00:00"),
        ["the method is", "it has expired, the rule has until: 2030-01-01T00:00:00Z", "the port is", "the path is"],
        "rule-expired",
    ),
    (("--method", "DELETE"), ["all of its conditions hold", *["a rule before"] * 3], "rule-deny"),
    (
        ("--query", "state=open", "--query", "state=closed"),
        ["the method is", "the query does not have", "the port is", "the path is"],
        "query-not-allowed",
    ),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("options", "expected", "reason"), TRIED)
def test_every_rule_that_was_tried_says_why_it_did_not_match(
    options: tuple[str, ...], expected: list[str], reason: str
) -> None:
    """In the order of the file, with the values that it names; what names other hosts is counted."""
    answer = asked(*options)
    assert answer["reason"] == reason
    org, sandbox = answer["tried"]  # type: ignore[misc]
    assert [rule["why"].startswith("the headers do not have") for rule in org["rules"]] == [True]
    assert sandbox["others"] == 1
    assert [rule["line"] for rule in sandbox["rules"]] == [3, 5, 12, 13]
    for rule, part in zip(sandbox["rules"], expected, strict=True):
        assert part in rule["why"]
    assert [rule["outcome"] for rule in sandbox["rules"]].count("speaks") == any("all of" in part for part in expected)


@pytest.mark.usefixtures("folder")
def test_headers_of_the_question_count() -> None:
    """The higher scope's deny asks for one."""
    answer = asked("--query", "state=open", "--header", "X-Internal: yes")
    assert (answer["reason"], answer["rule"]["line"]) == ("rule-deny", 5)  # type: ignore[index]


@pytest.mark.usefixtures("folder")
def test_what_may_be_dialled_is_what_every_scope_agrees_to() -> None:
    """Public addresses, and the ranges that all of the allowing rules name."""
    assert asked("--query", "state=open")["addresses"] == {"public": True, "ranges": ["10.0.0.0/8"]}
    assert "addresses" not in asked()


@pytest.mark.usefixtures("folder")
def test_people_see_the_same() -> None:
    """The rule that speaks is marked, the secret is named, and no value of it."""
    both = ("--policy", "org=org.yaml", "--policy", "policy.yaml")
    lines = run("https://api.example.com/v2", "--query", "state=open", *both).stdout.splitlines()
    told = [line.strip() for line in lines]
    assert "-  policy.yaml:3 deny: does not match, the method is GET, the rule has methods: DELETE" in told
    assert "=> policy.yaml:5 allow open ones: speaks, all of its conditions hold" in told
    assert "policy.yaml:12 allow: not tried, a rule before it speaks" in told
    assert "and 1 that names other destinations" in told
    assert "sets           x-api-key (secret key)" in told
    assert "may dial       public addresses, 10.0.0.0/8" in told


@pytest.mark.parametrize("text", ["tomorrow", "2030-01-01", "2030-01-01T00:00:00"])
def test_a_time_without_an_offset_is_a_usage_error(text: str, folder: Path) -> None:
    """It would be another moment on another machine."""
    assert folder
    assert run("https://api.example.com/", "--policy", "policy.yaml", "--at", text).exit_code == 2


def test_an_id_tells_its_row_again(audit: Path) -> None:
    """What was asked, what was decided and by which rule, and how it ended; exit 1 for what was not allowed."""
    result = run(ROW, "--audit", str(audit))
    assert result.exit_code == 1
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == "DENY GET api.example.com:443/v2"
    assert "rule        open ones, policy.yaml:5 (scope sandbox)" in lines
    assert any(line.startswith("reason      query-not-allowed: A rule allows this host and path") for line in lines)
    assert "ended       status 403, 10 bytes up, 20 bytes down, after 0.002 s" in lines
    values = json.loads(run(ROW, "--audit", str(audit), "--json").stdout)
    assert (values["id"], values["line"], values["status"], "now" in values) == (ROW, 5, 403, False)


def test_an_id_with_a_policy_says_what_it_decides_now(audit: Path, folder: Path) -> None:
    """The row as it was, and the same request under the policy that is named; the exit code is that of now."""
    (folder / "wider.yaml").write_text("version: 1\nrules:\n  - allow: api.example.com\n")
    result = run(ROW, "--audit", str(audit), "--policy", "wider.yaml")
    assert result.exit_code == 0
    assert "DENY GET api.example.com:443/v2" in result.stdout
    assert "ALLOW under the policy named here" in result.stdout
    values = json.loads(run(ROW, "--audit", str(audit), "--policy", "wider.yaml", "--json").stdout)
    assert (values["verdict"], values["now"]["verdict"], values["now"]["rule"]["line"]) == ("deny", "allow", 3)


def test_what_was_never_read_is_told_and_not_asked_again(audit: Path) -> None:
    """And what the wire left in the row does not act on a terminal."""
    result = run(CONNECT, "--audit", str(audit), "--policy", "org=org.yaml")
    assert result.exit_code == 1
    assert "cannot be asked again" in result.stdout
    assert "\x1b" not in result.stdout


def test_an_unknown_id_is_an_error(audit: Path) -> None:
    """Not a host of that name."""
    result = run("01j0000000000000000000000z", "--audit", str(audit))
    assert isinstance(result.exception, EgressError)
    assert "the audit has no row with the id" in str(result.exception)


SANDBOXED = """\
version: 1
rules:
  - allow: api.example.com
    sandboxes: [team=data]
"""
CONFIG = """\
policy: [./common.yaml]
sandboxes:
  ci: {source: 10.0.0.0/8, labels: {team: TEAM}OWN}
"""


def configured(folder: Path, team: str, own: str = "") -> tuple[str, ...]:
    """A configuration in which the row's sandbox is of a team, perhaps with a file of its own."""
    (folder / "common.yaml").write_text(SANDBOXED)
    (folder / "own.yaml").write_text("version: 1\nrules:\n  - deny: api.example.com\n")
    (folder / "egress.yaml").write_text(CONFIG.replace("TEAM", team).replace("OWN", own))
    return ("--config", "egress.yaml", "--json")


@pytest.mark.parametrize(
    ("team", "own", "verdict"),
    [("data", "", "allow"), ("build", "", "deny"), ("data", ", scopes: {team: [own.yaml]}", "deny")],
)
def test_an_id_is_judged_for_the_sandbox_of_its_row(
    audit: Path, folder: Path, team: str, own: str, verdict: str
) -> None:
    """With the labels and files that the configuration gives to that one, as the proxy judges it; in the viewer too."""
    told = json.loads(run(ROW, "--audit", str(audit), *configured(folder, team, own)).stdout)
    assert told["now"]["verdict"] == verdict
    desk = PolicyDesk(["./common.yaml"], surroundings(folder / "egress.yaml"))
    assert desk.today(row_named(ROW, (audit, None))).verdict == verdict


def test_labels_of_a_sandbox_that_was_registered_can_be_given_with_an_id(audit: Path, folder: Path) -> None:
    """The record has its name alone."""
    (folder / "common.yaml").write_text(SANDBOXED)
    named = (ROW, "--audit", str(audit), "--policy", "./common.yaml")
    assert run(*named).exit_code == 1
    assert run(*named, "--label", "team=data").exit_code == 0
    assert run(*named, "--label", "team=build").exit_code == 1


def test_lines_are_judged_with_the_labels_of_the_configuration(folder: Path) -> None:
    """A line names its sandbox, and the configuration says what that is."""
    line = '{"url": "https://api.example.com/", "sandbox": "SANDBOX"}\n'
    for sandbox, verdict in (("ci", "allow"), ("other", "deny")):
        arguments = ["explain", "-", *configured(folder, "data")]
        told = CliRunner().invoke(app, arguments, input=line.replace("SANDBOX", sandbox))
        assert json.loads(told.stdout)["verdict"] == verdict

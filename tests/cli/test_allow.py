"""`egress allow` and `egress deny`: where a rule goes, what is said, what is written, and what never is."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import records
import typer
from typer.testing import CliRunner

from egress.cli import allow, policy_files
from egress.cli.allow_rule import until
from egress.config import PolicySource
from egress.errors import ConfigError, EgressError
from egress.policy import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

app = typer.Typer()
allow.register(app)

POLICY = """\
# The policy of the agent.
version: 1
default: deny

rules:
  # Never.
  - name: never delete
    deny: api.example.com
    methods: [DELETE]

  - deny: "**"
# The end.
"""
ID = "01jabcdefghjkmnpqrstvwxyz0"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file to edit."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def run(*arguments: str | Path) -> Result:
    """Run `egress ...`; an error of ours comes out as the exception of the result."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(result: Result) -> str:
    """Give what the program would print of an error of ours."""
    assert isinstance(result.exception, EgressError), result.output
    return str(result.exception)


def test_an_allow_goes_before_the_general_deny_and_below_the_guard(policy: Path) -> None:
    """The exception stands before what it is taken from; what is never allowed stays so, and is told."""
    result = run("allow", "api.example.com", "--reason", "for the build", "--policy", policy, "--yes")
    assert result.exit_code == 0, result.output
    assert policy.read_text() == POLICY.replace(
        '  - deny: "**"\n', '  # for the build\n  - allow: api.example.com\n\n  - deny: "**"\n'
    )
    assert "+  - allow: api.example.com\n" in result.stdout
    assert "then GET to https://api.example.com:443/: allow (rule-allow)\n" in result.stdout
    assert f"(DELETE on port 443): {policy}:7, of scope `sandbox`, says otherwise" in result.stdout


def test_a_deny_goes_first(policy: Path) -> None:
    """So that no rule of the file speaks before it."""
    policy.write_text("version: 1\nrules:\n  - allow: .example.com\n")
    assert run("deny", "up.example.com", "--policy", policy, "--yes").exit_code == 0
    assert policy.read_text() == "version: 1\nrules:\n  - deny: up.example.com\n  - allow: .example.com\n"


def test_conditions_of_the_command_line_are_written(policy: Path) -> None:
    """Each list as the policy file has it."""
    arguments = ("--methods", "read-only", "--paths", "/a,/b/**", "--ports", "443,8000-8010", "--protocol", "https")
    assert run("allow", "b.example.com", *arguments, "--policy", policy, "--yes").exit_code == 0
    added = policy.read_text().removeprefix(POLICY[: POLICY.index('  - deny: "**"')]).partition("\n\n")[0]
    assert added == (
        "  - allow: b.example.com\n"
        '    ports: [443, "8000-8010"]\n'
        "    methods: read-only\n"
        "    paths: [/a, /b/**]\n"
        "    protocol: https"
    )


# Rules of a file, what is asked for, and what the answer says without touching the file.
SAID = (
    ("  - allow: .example.com\n", ("allow", "a.example.com"), "is allowed already, by {file}:3"),
    ("  - deny: .example.com\n", ("deny", "a.example.com"), "is denied already, by {file}:3"),
    ("  - allow: 10.0.0.0/8\n", ("allow", "10.1.0.0/16"), "is allowed already"),
    (
        "  - allow: db.example.com:5432\n    protocol: tcp\n",
        ("allow", "db.example.com:5432", "--protocol", "tcp"),
        "already",
    ),
)


@pytest.mark.parametrize(("rules", "words", "said"), SAID)
def test_what_is_said_already_is_not_said_again(rules: str, words: tuple[str, ...], said: str, policy: Path) -> None:
    """The file stays as it is, and the rule that says it is named."""
    policy.write_text(f"version: 1\nrules:\n{rules}")
    result = run(*words, "--policy", policy, "--yes")
    assert result.exit_code == 0, result.output
    assert said.format(file=policy) in result.stdout
    assert policy.read_text() == f"version: 1\nrules:\n{rules}"


def test_an_allow_of_reading_does_not_count_as_an_allow(policy: Path) -> None:
    """A rule without `methods` is for all of them, so one for reading is not enough."""
    policy.write_text("version: 1\nrules:\n  - allow: a.example.com\n    methods: read-only\n")
    assert run("allow", "a.example.com", "--policy", policy, "--yes").exit_code == 0
    assert policy.read_text().endswith("  - allow: a.example.com\n")


def test_a_deny_that_only_the_default_gives_is_written(policy: Path) -> None:
    """What nothing allows yet may be allowed tomorrow."""
    policy.write_text("version: 1\ndefault: deny\n")
    assert run("deny", "a.example.com", "--policy", policy, "--yes").exit_code == 0
    assert "- deny: a.example.com" in policy.read_text()


def test_a_deny_of_the_same_target_is_a_conflict(policy: Path) -> None:
    """One person must say so; `--force` puts the new rule above it, and it speaks."""
    policy.write_text("version: 1\nrules:\n  - deny: [a.example.com, b.example.com]\n")
    before = policy.read_text()
    assert f"{policy}:3: this rule says `deny` to the same target" in error_of(
        run("allow", "a.example.com", "--policy", policy, "--yes")
    )
    assert policy.read_text() == before
    result = run("allow", "a.example.com", "--policy", policy, "--yes", "--force")
    assert result.exit_code == 0
    assert "https://a.example.com:443/: allow" in result.stdout
    assert policy.read_text() == before.replace("rules:\n", "rules:\n  - allow: a.example.com\n")


def test_a_rule_that_would_make_a_reload_refuse_the_file_is_not_written(policy: Path) -> None:
    """An allow above a deny that then never holds: nobody who reads the file would believe the deny; not by force."""
    policy.write_text("version: 1\nrules:\n  - deny: a.example.com\n    methods: [DELETE]\n")
    before = policy.read_text()
    result = run("allow", "a.example.com", "--methods", "DELETE", "--policy", policy, "--yes", "--force")
    assert f"{policy}:5: this deny never holds" in error_of(result)
    assert "[E101]" in error_of(result)
    assert policy.read_text() == before


def test_a_guard_that_leaves_the_allow_nothing_is_a_conflict(policy: Path) -> None:
    """To allow exactly what a guard forbids is to take the guard away."""
    assert f"{policy}:7: this rule says `deny`" in error_of(
        run("allow", "api.example.com", "--methods", "DELETE", "--policy", policy, "--yes")
    )
    assert policy.read_text() == POLICY


def test_a_rule_that_another_scope_overrules_is_not_written(policy: Path, tmp_path: Path) -> None:
    """It would change nothing, and who reads it later would think that it does. The other rule is named."""
    org = tmp_path / "org.yaml"
    org.write_text("version: 1\nrules:\n  - deny: .example.com\n")
    arguments = ("allow", "b.example.com", "--policy", f"org={org}", "--policy", policy, "--yes")
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"{org}:3, of scope `org`, says otherwise" in result.stdout
    assert "not written" in result.stderr
    assert policy.read_text() == POLICY
    assert run(*arguments, "--force").exit_code == 0
    assert "- allow: b.example.com" in policy.read_text()


def test_a_scope_that_allows_nothing_is_named(policy: Path, tmp_path: Path) -> None:
    """A ceiling has no rule that says no, so its scope is named."""
    org = tmp_path / "org.yaml"
    org.write_text("version: 1\ndefault: deny\nrules:\n  - allow: other.example\n")
    result = run("allow", "b.example.com", "--policy", f"org={org}", "--policy", policy, "--yes")
    assert result.exit_code == 1
    assert "no rule of scope `org` allows it" in result.stdout
    assert policy.read_text() == POLICY


# What is asked for, and what is wrong with it.
WRONG = (
    (("allow", "*.com"), "covers names that anyone can register"),
    (("allow", "https://a.example.com/"), "is a URL"),
    (("allow", "a.example.com", "--methods", "get"), "policy.yaml:12: rules[1].methods[0]: methods are upper-case"),
    (("allow", "a.example.com", "--protocol", "tcp"), "a `tcp` allow must name its ports"),
    (("allow", "a.example.com", "--paths", "v1"), "does not start with a slash"),
    (("deny", "a.example.com", "--ports", "0"), "is outside the ports"),
)


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_a_rule_that_does_not_load_is_refused(words: tuple[str, ...], said: str, policy: Path) -> None:
    """The problem is told under the file's own name and the line that the rule would have; nothing is written."""
    assert said in error_of(run(*words, "--policy", policy, "--yes"))
    assert policy.read_text() == POLICY
    assert sorted(path.name for path in policy.parent.iterdir()) == ["policy.yaml"]


def test_a_file_that_does_not_load_is_not_edited(policy: Path) -> None:
    """What is wrong with it is told first."""
    policy.write_text("version: 1\nrules:\n  - alow: a.example.com\n")
    assert "unknown key, did you mean `allow`?" in error_of(run("allow", "b.example.com", "--policy", policy, "--yes"))


def test_new_warnings_are_told_and_old_ones_are_not(policy: Path) -> None:
    """A warning of the new rule is about this change; one of an old rule is not."""
    policy.write_text('version: 1\nrules:\n  - allow: "**"\n    methods: [GET]\n')
    quiet = run("allow", "a.example.com", "--policy", policy, "--yes")
    assert "warning:" not in quiet.stdout
    shifted = run("deny", "b.example.com", "--policy", policy, "--yes")
    assert "warning:" not in shifted.stdout
    loud = run("allow", "**", "--methods", "POST", "--policy", policy, "--yes")
    assert f"warning: {policy}:7: rules[3].allow" in loud.stdout


def test_a_dry_run_and_a_run_without_a_terminal_write_nothing(policy: Path) -> None:
    """The change is shown; without `--yes` and without anybody to ask, nothing happens."""
    shown = run("allow", "b.example.com", "--policy", policy, "--dry-run")
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "nothing is written")
    assert "+  - allow: b.example.com" in shown.stdout
    unasked = run("allow", "b.example.com", "--policy", policy)
    assert unasked.exit_code == 1
    assert "there is no terminal to ask on, add `--yes`" in unasked.stderr
    assert policy.read_text() == POLICY


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("n", False)])
def test_a_terminal_is_asked(answer: str, written: bool, policy: Path) -> None:  # noqa: FBT001
    """The diff is coloured, and the answer counts."""
    program = "import sys; from egress.cli.main import main; main()"
    parent, child = pty.openpty()
    words = [sys.executable, "-c", program, "allow", "b.example.com", "--policy", str(policy)]
    process = subprocess.Popen(words, stdin=child, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    os.write(parent, f"{answer}\n".encode())
    shown = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    assert process.wait() == (0 if written else 1)
    assert b"\x1b[32m+  - allow: b.example.com" in shown
    assert f"Write this to {policy}?".encode() in shown
    assert ("- allow: b.example.com" in policy.read_text()) == written


def test_mode_and_link_stay(policy: Path, tmp_path: Path) -> None:
    """The file that the link ends at is replaced, with its mode; lists are found from the link's own folder."""
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "data.yaml"
    real.write_text("version: 1\nrules:\n  - deny: {file: hosts.txt}\n")
    real.chmod(0o640)
    (tmp_path / "hosts.txt").write_text("bad.example\n")
    policy.unlink()
    policy.symlink_to(real)
    assert run("allow", "b.example.com", "--policy", policy, "--yes").exit_code == 0
    assert policy.is_symlink()
    assert real.read_text().endswith("  - allow: b.example.com\n")
    assert real.stat().st_mode & 0o7777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts.txt", "policy.yaml", "real"]
    assert [path.name for path in real.parent.iterdir()] == ["data.yaml"]


def test_the_owner_stays(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user's does not become ours: the new file is given to the owner of the old one."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(policy_files.os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    policy_files._write_new(policy.with_name("new.yaml"), b"", 0o640, owner=(12_345, 54_321))
    assert given == [(12_345, 54_321)]
    assert policy.with_name("new.yaml").stat().st_mode & 0o7777 == 0o640


def test_a_file_that_changed_in_between_is_left_as_it_is(policy: Path) -> None:
    """Nobody's work is lost."""
    file = policy_files.read(PolicySource(Scope.SANDBOX, policy))
    policy.write_text("version: 1\n# somebody else\n")
    with pytest.raises(ConfigError, match="has changed since it was read"):
        policy_files.replace_file(file, "version: 1\n")
    assert policy.read_text() == "version: 1\n# somebody else\n"


def test_a_shipped_policy_is_not_changed() -> None:
    """It belongs to the program; a copy of it can be edited."""
    result = run("allow", "a.example.com", "--policy", "starter")
    assert result.exit_code == 2
    assert "comes with egress and is not changed" in result.stderr


def test_no_policy_is_a_wrong_command_line() -> None:
    """There is no file that could be meant."""
    assert run("allow", "a.example.com").exit_code == 2


NOW = datetime(2026, 11, 21, 8, 0, 0, 999_999, tzinfo=UTC)
TTLS = (("90s", "08:01:30"), ("30m", "08:30:00"), ("1h", "09:00:00"), ("2h", "10:00:00"))


@pytest.mark.parametrize(("ttl", "end"), TTLS)
def test_a_duration_becomes_its_end_in_utc(ttl: str, end: str) -> None:
    """Whole seconds, with `Z`."""
    assert until(ttl, NOW) == f"2026-11-21T{end}Z"
    assert until(ttl, NOW.astimezone(UTC) + timedelta()) == f"2026-11-21T{end}Z"


@pytest.mark.parametrize("ttl", ["", "1", "h", "0h", "-1h", "1.5h", "1 h", "1y", "9999999999w"])
def test_what_is_no_duration_is_a_wrong_command_line(ttl: str) -> None:
    """The message shows what one looks like."""
    with pytest.raises(typer.BadParameter, match="write `90s`"):
        until(ttl, NOW)


def record(folder: Path, **changed: object) -> None:
    """Write one denied request into the audit of a state folder."""
    records.record(folder / "audit.db", records.denied(**({"id": ID, "host": "b.example.com"} | changed)))


def test_the_id_of_a_denied_request_gives_the_narrowest_rule(policy: Path, tmp_path: Path) -> None:
    """Its host, port, method and path, and nothing else."""
    record(tmp_path / "state")
    result = run("allow", ID, "--state-dir", tmp_path / "state", "--policy", policy, "--yes")
    assert result.exit_code == 0, result.output
    added = re.search(r"  - allow.*?\n\n", policy.read_text(), re.DOTALL)
    assert added is not None
    assert added[0] == ("  - allow: b.example.com\n    ports: [443]\n    methods: [POST]\n    paths: [/v1/items]\n\n")


def test_an_id_that_is_not_there_is_an_error(policy: Path, tmp_path: Path) -> None:
    """It says where to look."""
    record(tmp_path / "state")
    other = ID[:-1] + "1"
    assert f"the audit has no row with the id {other}" in error_of(
        run("allow", other, "--state-dir", tmp_path / "state", "--policy", policy)
    )

"""`egress policy test`, `diff`, `show` and `fmt`: what people and programs get from them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner

from egress.audit import AuditWriter, DecisionEvent
from egress.cli import policy, policy_fmt
from egress.config import load_policy

if TYPE_CHECKING:
    from click.testing import Result

    from egress.config import LoadedPolicy

ROOT = Path(__file__).parents[2]
SHIPPED_CASES = sorted((ROOT / "policies" / "tests").glob("*.yaml"))

app = typer.Typer()
policy.register(app)


@app.callback()
def root() -> None:
    """Make `policy` a group beside others, as it is in the real tree."""


def run(*arguments: str | Path) -> Result:
    """Run `egress policy ...`."""
    return CliRunner().invoke(app, ["policy", *map(str, arguments)])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two policies and cases, which is the current one."""
    (tmp_path / "old.yaml").write_text("version: 1\nrules:\n  - {name: api, allow: api.example.com, methods: [GET]}\n")
    (tmp_path / "new.yaml").write_text("version: 1\nrules:\n  - {name: api, allow: api.example.com}\n")
    (tmp_path / "cases.yaml").write_text(
        "policy: old.yaml\ncases:\n"
        "  - {request: GET https://api.example.com/, expect: allow}\n"
        "  - {name: no writing, request: POST https://api.example.com/, expect: deny, reason: method-not-allowed}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


# egress policy test


@pytest.mark.parametrize("path", SHIPPED_CASES, ids=lambda path: path.stem)
def test_shipped_policies_say_what_their_cases_expect(path: Path) -> None:
    """The cases under policies/tests, as a user runs them."""
    result = run("test", path)
    assert result.exit_code == 0, result.stdout


def test_every_shipped_policy_has_cases() -> None:
    """A policy that comes with egress is one that is tested."""
    assert {path.name for path in SHIPPED_CASES} >= {path.name for path in (ROOT / "policies").glob("*.yaml")}


def test_passing_cases_are_counted(here: Path) -> None:
    """One line a file, exit 0; from whatever folder."""
    result = run("test", "cases.yaml", here / "cases.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["cases.yaml: 2 cases, all passed", f"{here}/cases.yaml: 2 cases, all passed"]


@pytest.mark.usefixtures("here")
def test_failing_case_is_told_with_its_line_and_the_answer() -> None:
    """Expected, found, and what explain would say; exit 1. `--policy` takes the place of the file's own."""
    result = run("test", "cases.yaml", "--policy", "new.yaml")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "cases.yaml:4: no writing: POST https://api.example.com/",
        "  verdict: expected deny, found allow",
        "  reason: expected method-not-allowed, found rule-allow",
        "  explained: allow, rule-allow: A rule of the policy allows this request. [api, new.yaml:3, scope sandbox]",
        "cases.yaml: 1 of 2 cases failed",
    ]


def test_unusable_file_is_exit_2_and_the_others_are_run(here: Path) -> None:
    """A file that cannot be used has run no case, which is not the same as one that failed."""
    (here / "bad.yaml").write_text("policy: old.yaml\ncases:\n  - {request: GET https://a.test/, expect: no}\n")
    (here / "unnamed.yaml").write_text("cases:\n  - {request: GET https://a.test/, expect: deny}\n")
    (here / "gone.yaml").write_text("policy: nowhere.yaml\ncases:\n  - {request: GET https://a.test/, expect: deny}\n")
    result = run("test", "bad.yaml", "unnamed.yaml", "gone.yaml", "cases.yaml")
    assert result.exit_code == 2
    assert result.stdout == "cases.yaml: 2 cases, all passed\n"
    assert result.stderr.splitlines() == [
        "bad.yaml:3: cases[0].expect: unknown word `no`, write `allow`, `ask` or `deny`",
        "unnamed.yaml:1: the file names no policy, write `policy: policy.yaml` at its top, or add `--policy`",
        "nowhere.yaml: no such file, check the path",
    ]


@pytest.mark.usefixtures("here")
def test_results_as_json_and_junit() -> None:
    """One object on standard output, and the file for the CI system."""
    result = run("test", "cases.yaml", "--policy", "new.yaml", "--format", "json", "--junit", "results.xml")
    values = json.loads(result.stdout)
    assert (result.exit_code, values["cases"], values["failed"]) == (1, 2, 1)
    root = ET.fromstring(Path("results.xml").read_text())  # noqa: S314 -- our own
    assert (root.get("tests"), root.get("failures")) == ("2", "1")


@pytest.mark.usefixtures("here")
def test_junit_file_that_cannot_be_written_is_an_error() -> None:
    """Never results that only seem to be there."""
    result = run("test", "cases.yaml", "--junit", "no-folder/results.xml")
    assert result.exit_code == 1
    assert "no-folder/results.xml cannot be written (no such file or directory)" in str(result.exception)


def test_texts_of_cases_cannot_act_on_a_terminal(here: Path) -> None:
    """INVARIANT hostile-text: a request is shown escaped."""
    (here / "odd.yaml").write_text('policy: old.yaml\ncases:\n  - {request: "https://\\e[2Jx/", expect: allow}\n')
    result = run("test", "odd.yaml")
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "\\x1b[2Jx" in result.stdout


# egress policy diff


@pytest.mark.usefixtures("here")
def test_diff_of_the_same_is_exit_0() -> None:
    """And says that there is none."""
    result = run("diff", "old.yaml", "./old.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "no change of meaning"


@pytest.mark.usefixtures("here")
def test_diff_names_kind_rules_counts_example_and_what_it_is() -> None:
    """Exit 1; as text and as JSON."""
    result = run("diff", "old.yaml", "new.yaml")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "newly allowed:",
        "  old  deny, api, old.yaml:3, scope sandbox (method-not-allowed)",
        "  new  allow, api, new.yaml:3, scope sandbox",
    ]
    assert lines[3].endswith("to 1 destination, as POST https://api.example.com/")
    assert lines[-1].startswith("exact for the destinations, ports, methods, paths and ranges that the files name")
    values = json.loads(run("diff", "old.yaml", "new.yaml", "--format", "json").stdout)
    assert (values["same"], values["groups"][0]["kind"]) == (False, "newly allowed")


def test_diff_under_a_common_scope(here: Path) -> None:
    """What the org's policy denies on both sides is no change."""
    (here / "org.yaml").write_text("version: 1\nrules:\n  - {deny: api.example.com, methods: [PUT, POST, PATCH]}\n")
    examples = [
        group["example"]
        for group in json.loads(
            run("diff", "old.yaml", "new.yaml", "--policy", "org=org.yaml", "--format", "json").stdout
        )["groups"]
    ]
    assert "HEAD https://api.example.com/" in examples
    assert not any("POST" in example for example in examples)
    assert run("diff", "team=old.yaml", "team=new.yaml", "--policy", "org=org.yaml").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [["old.yaml", "none.yaml"], ["old.yaml", "no-policy"], ["old.yaml", "new.yaml", "--against", "none.db"]],
)
@pytest.mark.usefixtures("here")
def test_trouble_is_exit_2(arguments: list[str]) -> None:
    """Not 1, which would mean that something changed."""
    result = run("diff", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("egress: ")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("arguments", [["--since", "1d"], ["--since", "soon", "--against", "audit.db"]])
def test_since_is_a_time_and_needs_a_record(arguments: list[str]) -> None:
    """A usage error."""
    AuditWriter(Path("audit.db")).start()
    assert run("diff", "old.yaml", "new.yaml", *arguments).exit_code == 2


def test_diff_against_an_audit_beside_its_writer(here: Path) -> None:
    """Recorded decisions in groups with their counts; `--since` leaves out what is older; the writer goes on."""
    event = DecisionEvent(
        id="a", time_us=1_790_000_000_000_000, sandbox="agent", client="127.0.0.1:1", verdict="deny", reason="x",
        method="POST", scheme="https", protocol="https", host="api.example.com", port=443, path="/v1",
    )  # fmt: skip
    writer = AuditWriter(here / "audit.db", flush_interval=0.01)
    writer.start()
    try:
        for number in range(30):
            late = 10_000_000 * (number % 3)
            writer.offer(replace(event, id=f"id-{number}", time_us=event.time_us + late, path=f"/{number % 3}"))
        assert writer.flush(10)
        result = run("diff", "old.yaml", "new.yaml", "--against", "audit.db")
        assert result.exit_code == 1
        assert "       30 recorded decisions, as POST https://api.example.com/0" in result.stdout.splitlines()
        since = run("diff", "old.yaml", "new.yaml", "--against", "audit.db", "--since", "2026-09-21T14:13:25Z")
        assert "20 recorded decisions" in since.stdout, since.stdout
        same = run("diff", "old.yaml", "old.yaml", "--against", "audit.db")
        assert (same.exit_code, same.stdout.splitlines()[0]) == (0, "no recorded decision would change")
        assert writer.offer(replace(event, id="after"))
        assert writer.flush(10)
    finally:
        writer.close(timeout=5)


# egress policy show


def test_show_gives_every_rule_with_its_origin(here: Path) -> None:
    """Text for people; YAML and JSON with the same values."""
    (here / "org.yaml").write_text("version: 1\ndefault: deny\nrules:\n  - deny: '**:25'\n")
    arguments = ["show", "--policy", "old.yaml", "--policy", "org=org.yaml"]
    text = run(*arguments).stdout
    assert text.index("scope org: default deny") < text.index("  1. (org.yaml:4)") < text.index("  1. api (old.yaml:3)")
    assert "     methods  GET" in text.splitlines()
    values = json.loads(run(*arguments, "--format", "json").stdout)
    from egress.config.document import read_document

    written, problems = read_document(run(*arguments, "--format", "yaml").stdout, "shown")
    assert problems == []
    assert written is not None
    assert written.data == values
    assert values["scopes"][0]["rules"] == [{"file": "org.yaml", "line": 4, "deny": ["**:25"]}]


def test_long_lists_are_cut_in_text_alone(here: Path) -> None:
    """A list of a thousand hosts does not bury the rules."""
    (here / "hosts.txt").write_text("".join(f"h{number}.test\n" for number in range(1000)))
    (here / "long.yaml").write_text("version: 1\nrules:\n  - allow: {file: hosts.txt}\n")
    assert "h19.test and 980 more" in run("show", "--policy", "long.yaml").stdout
    values = json.loads(run("show", "--policy", "long.yaml", "--format", "json").stdout)
    assert len(values["scopes"][0]["rules"][0]["allow"]) == 1000


def test_show_needs_a_policy() -> None:
    """Nothing to show is a usage error."""
    assert run("show").exit_code == 2


# egress policy fmt

UGLY = "version: 1\nrules:\n- allow:   a.test # keep\n"
LAID_OUT = "version: 1\nrules:\n  - allow: a.test  # keep\n"


def test_fmt_lays_out_and_keeps_mode_and_links(here: Path) -> None:
    """The file itself is replaced, at once; a link to it stays a link, and nothing else is left in the folder."""
    path, link = here / "ugly.yaml", here / "link.yaml"
    path.write_text(UGLY)
    path.chmod(0o640)
    link.symlink_to(path)
    before = sorted(here.iterdir())
    result = run("fmt", "link.yaml")
    assert (result.exit_code, result.stdout) == (0, "link.yaml: laid out\n")
    assert (path.read_text(), link.is_symlink()) == (LAID_OUT, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(here.iterdir()) == before
    assert (run("fmt", "link.yaml").stdout, run("fmt", "--check", "link.yaml").exit_code) == ("", 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: needs root, to give a file away")
def test_fmt_keeps_the_owner(here: Path) -> None:
    """A policy of root's and a group's stays theirs."""
    path = here / "ugly.yaml"
    path.write_text(UGLY)
    os.chown(path, 0, 12_345)
    assert run("fmt", path).exit_code == 0
    assert (path.read_text(), path.stat().st_gid) == (LAID_OUT, 12_345)


@pytest.mark.parametrize("flag", ["--check", "--diff"])
def test_check_and_diff_write_nothing(here: Path, flag: str) -> None:
    """Exit 1 where the file would change."""
    (here / "ugly.yaml").write_text(UGLY)
    result = run("fmt", flag, "ugly.yaml", "old.yaml")
    assert (result.exit_code, (here / "ugly.yaml").read_text()) == (1, UGLY)
    assert ("ugly.yaml: would change" in result.stdout) == (flag == "--check")
    assert ("+  - allow: a.test  # keep" in result.stdout.splitlines()) == (flag == "--diff")
    assert "old.yaml" not in result.stdout


REFUSED = {
    "does not load": "version: 1\nrules:\n- allow:   '*'\n",
    "is no YAML": "version: 1\nrules: [\n",
    "holds a block of text": "version: 1\nrules:\n- allow:   a.test\n  name: |\n    x\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_file_that_cannot_be_laid_out_is_left_as_it_is(here: Path, text: str) -> None:
    """Exit 2, and the problem with its line; the others are laid out."""
    (here / "bad.yaml").write_text(text)
    (here / "ugly.yaml").write_text(UGLY)
    result = run("fmt", "bad.yaml", "ugly.yaml")
    assert (result.exit_code, (here / "bad.yaml").read_text()) == (2, text)
    assert result.stderr.startswith("bad.yaml:")
    assert (here / "ugly.yaml").read_text() == LAID_OUT


def test_fmt_compares_the_loaded_rules_before_it_replaces(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two proofs: the values (in `egress.config.layout`), and what loading makes of them."""
    (here / "ugly.yaml").write_text(UGLY)
    calls: list[Path] = []

    def other(sources: list[object], **_: object) -> LoadedPolicy:
        calls.append(here)
        name = "old.yaml" if len(calls) == 2 else "new.yaml"
        return load_policy([replace(sources[0], path=here / name)])  # type: ignore[type-var]

    monkeypatch.setattr("egress.config.load_policy", other)
    result = run("fmt", "ugly.yaml")
    assert (result.exit_code, len(calls)) == (2, 2)
    assert result.stderr == "ugly.yaml: its rules would change, the file is left as it is\n"
    assert ((here / "ugly.yaml").read_text(), [path.name for path in here.glob(".ugly*")]) == (UGLY, [])


def test_fmt_does_not_undo_what_somebody_writes_meanwhile(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced only while it is the one that was read."""
    path = here / "ugly.yaml"
    path.write_text(UGLY)
    meaning = policy_fmt._meaning

    def meanwhile(loaded: LoadedPolicy) -> object:
        path.write_text(UGLY + "# more\n")
        return meaning(loaded)

    monkeypatch.setattr(policy_fmt, "_meaning", meanwhile)
    result = run("fmt", "ugly.yaml")
    assert (result.exit_code, path.read_text()) == (2, UGLY + "# more\n")
    assert "the file has changed since it was read" in result.stderr


PRESET = "version: 1\npreset:\n  title: ours\n  allows: it\n  risks: none\nrules:\n- allow:   ${param.none}\n"


def test_fmt_lays_out_presets(here: Path) -> None:
    """They do not load by themselves, so their values are all that is compared."""
    (here / "preset.yaml").write_text(PRESET)
    result = run("fmt", "preset.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (here / "preset.yaml").read_text() == PRESET.replace("- allow:   ", "  - allow: ")


def test_fmt_knows_the_secrets_of_the_policies_beside(here: Path) -> None:
    """A team's file names the organization's."""
    (here / "org.yaml").write_text("version: 1\nsecrets:\n  key: {env: KEY, hosts: [a.test]}\n")
    (here / "team.yaml").write_text('version: 1\nrules:\n- allow:   a.test\n  inject: {X: "${key}"}\n')
    assert run("fmt", "team=team.yaml").exit_code == 2
    assert run("fmt", "team=team.yaml", "--policy", "org=org.yaml").stdout == "team.yaml: laid out\n"


# what comes with egress

# Warnings that a posture is meant to have.
MEANT = {"open": {"W202"}}


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_policies_have_no_findings_but_notes(path: Path) -> None:
    """Who starts from one is not told what is wrong with it."""
    values = json.loads(run("check", path, "--format", "json").stdout)
    codes = {each["code"] for each in values["findings"] if each["severity"] != "note"}
    # This machine's tools may not be configured, which is told as a doubtful value.
    assert codes - {"W009"} == MEANT.get(path.stem, set())


# what they load


@pytest.mark.parametrize("command", ["test", "diff", "show", "fmt", "schema"])
def test_help_shows_examples(command: str) -> None:
    """Each is reachable, and says how it is used."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"egress policy {command}" in result.stdout


def test_tools_load_neither_mitmproxy_nor_credentials(here: Path) -> None:
    """They answer from the policies alone, so they start fast and never touch a secret's value."""
    code = (
        "import json, sys\nfrom egress.cli.main import main\nsys.argv[1:] = json.loads(sys.argv[1])\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('mitmproxy', 'egress.credentials', 'egress.gate')\n"
        "print(json.dumps([name for name in sys.modules if name.startswith(heavy)]))\n"
    )
    for arguments in (["test", "cases.yaml"], ["diff", "old.yaml", "new.yaml"], ["show", "--policy", "old.yaml"]):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(["policy", *arguments])],
            capture_output=True, text=True, check=True, timeout=60, cwd=here,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert json.loads(done.stdout.splitlines()[-1]) == []

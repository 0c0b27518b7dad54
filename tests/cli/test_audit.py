"""`egress audit`: what a person and a program see, on a terminal, in a pipe, beside a running writer."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from egress.audit import AuditReader, AuditWriter, DecisionEvent, OutcomeEvent
from egress.audit.figures import show_bytes, show_duration
from egress.audit.filters import one, parse_filter
from egress.audit.saved import save_filter, saved_file
from egress.cli.audit import audit, register
from egress.cli.audit_table import AuditTable
from egress.errors import AuditError
from egress.policy.vocabulary import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOSTILE = "/\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp\x7f\u0085\nforged\tline\r[red]x[/red]\x00\udc80\u05d0"
NOW_US = time.time_ns() // 1000

RUN = """
import sys, typer
from egress.cli.audit import register
from egress.errors import EgressError
app = typer.Typer()
app.callback()(lambda: None)
register(app)
try:
    app(prog_name="egress")
except EgressError as error:
    sys.exit(f"egress: {error}")
finally:
    unwanted = {"mitmproxy", "sqlite_utils", "egress.credentials", "egress.config", "ruamel", "cryptography"}
    if loaded := unwanted & set(sys.modules):
        print("LOADED", loaded, file=sys.stderr)
"""


@pytest.fixture
def app() -> typer.Typer:
    """A program with this command, as `egress` has it."""
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AuditWriter]:
    """A writer with five requests, hostile text among them."""
    writer = AuditWriter(tmp_path / "audit.db", flush_interval=0.02)
    writer.start()
    common = {"sandbox": "agent", "client": "127.0.0.1:1", "scheme": "https", "port": 443}
    rule = {"file": "/etc/egress/agent.yaml", "line": 17, "reason": "rule-allow", "verdict": "allow"}
    rows: list[dict[str, object]] = [
        {"host": "api.example.com", "method": "POST", "path": "/v1", "query": "k=***", "secrets": ("github",), **rule},
        {"host": "evil.test", "method": "CONNECT", "verdict": "deny", "reason": "host-not-allowed"},
        {"host": "github.com", "method": "CONNECT", "lane": "tunnel", **rule},
        {"host": "2001:db8::1", "method": "GET", "path": HOSTILE, "sni": HOSTILE, **rule},
        {"host": "packages.example", "method": "GET", "path": "/simple/", **rule},
    ]
    for number, row in enumerate(rows):
        event = DecisionEvent(**({"id": f"id-{number}", "time_us": NOW_US + number} | common | row))  # type: ignore[arg-type]
        assert writer.offer(event)
    ends: list[dict[str, object]] = [
        {"id": "id-0", "status": 200, "bytes_up": 1834, "bytes_down": 20_481, "duration_us": 81_000},
        {"id": "id-3", "status": 404},
        {"id": "id-4", "status": 502, "error": "upstream-unreachable: connection refused"},
    ]
    for end in ends:
        assert writer.offer(OutcomeEvent(time_us=NOW_US + 100, **end))  # type: ignore[arg-type]
    assert writer.flush(5)
    yield writer
    writer.close(5)


@pytest.fixture
def run(app: typer.Typer, writer: AuditWriter) -> Callable[..., list[str]]:
    """Run the command on the writer's database; gives its lines."""

    def lines(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, ["audit", "--audit", str(writer.path), *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout.split("\n")[:-1]

    return lines


@pytest.fixture
def screen(writer: AuditWriter) -> Callable[[int], str]:
    """What the table looks like at a width."""

    def show(width: int) -> str:
        output = io.StringIO()
        console = Console(file=output, width=width, force_terminal=True, markup=False, highlight=False, emoji=False)
        with AuditReader(writer.path) as reader:
            rows = reader.newest()
        table = AuditTable(rows, console)
        table.show(rows, header=True)
        table.show_footer(len(rows))
        return output.getvalue()

    return show


def test_a_rewritten_request_shows_both_hosts(
    writer: AuditWriter, screen: Callable[[int], str], run: Callable[..., list[str]]
) -> None:
    """What was asked for, and where it went; in the lines and in JSON as a field of its own."""
    went = "https://gateway.corp.example:8443/api/v1/chat"
    event = DecisionEvent(
        id="id-9",
        time_us=NOW_US + 9,
        sandbox="agent",
        client="127.0.0.1:1",
        verdict="allow",
        reason="rule-allow",
        method="GET",
        scheme="https",
        host="llm.internal",
        port=443,
        path="/v1/chat",
        query="a=***",
        rewritten=went,
    )
    assert writer.offer(event)
    assert writer.flush(5)
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen(200))
    assert "llm.internal -> gateway.corp.example:8443/api/v1/chat" in text
    assert run()[-1].split("\t")[-2] == went
    assert json.loads(run("--json")[-1])["rewritten"] == went


def test_what_only_a_report_let_pass_is_loud(writer: AuditWriter, screen: Callable[[int], str]) -> None:
    """Its verdict and its reason stand out from those of allowed requests, also where it broke off later."""
    event = DecisionEvent(
        id="id-9",
        time_us=NOW_US + 9,
        sandbox="agent",
        client="127.0.0.1:1",
        verdict="allow",
        reason="would-deny",
        method="GET",
        scheme="https",
        host="reported.test",
        port=443,
    )
    assert writer.offer(event)
    assert writer.offer(OutcomeEvent(time_us=NOW_US + 10, id="id-9", status=502, error="upstream-unreachable: refused"))
    assert writer.flush(5)
    loud = "\x1b[1;30;43m"
    row = next(line for line in screen(200).split("\n") if "reported.test" in line)
    assert f"{loud}allow" in row
    assert f"{loud}would-deny" in row
    assert screen(200).count(loud) == 2


def _harmless(line: str) -> bool:
    return not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in line.replace("\t", ""))


def test_lines_are_stable(run: Callable[..., list[str]]) -> None:
    """Eighteen fields with tabs between, a line a row, the newest last."""
    lines = [line.split("\t") for line in run()]
    assert [len(fields) for fields in lines] == [18] * 5
    assert lines[0][1:] == [
        *("id-0", "done", "allow", "agent", "POST", "api.example.com:443/v1?k=***", "200", "rule-allow"),
        *("/etc/egress/agent.yaml:17", "1834", "20481", "81000", "github", "-", "-", "-", "1"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[0][0])
    assert lines[2][2] == "open"
    assert lines[3][6].startswith("[2001:db8::1]:443/")


@pytest.mark.parametrize("arguments", [(), ("--plain",), ("--json",)])
def test_text_from_the_wire_is_one_harmless_line(arguments: tuple[str, ...], run: Callable[..., list[str]]) -> None:
    """No escape sequence, newline or bidi control of a client reaches the output."""
    lines = run(*arguments)
    assert len(lines) == 5
    assert all(_harmless(line) for line in lines)
    assert "forged" in lines[3]
    assert "\\x1b" in lines[3]


def test_text_that_was_not_stored_by_us_is_harmless_too(tmp_path: Path, run: Callable, writer: AuditWriter) -> None:
    """The viewer does not rely on the writer's escaping."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(writer.path)) as connection, connection:
        connection.execute(
            "INSERT INTO decisions (id, time_us, sandbox, client, verdict, reason, path, secrets) "
            "VALUES ('raw', ?, ?, ?, ?, ?, ?, 'no json')",
            (2**62, *(["\x1b[31m\n\u202e\x7f\x9b"] * 5)),
        )
    assert writer.path.parent == tmp_path
    for arguments in ((), ("--json",)):
        lines = run(*arguments)
        assert len(lines) == 6
        assert all(_harmless(line) and line.isascii() for line in lines[5:])


def test_json_has_every_column(run: Callable[..., list[str]]) -> None:
    """One object a line, with numbers as numbers and secrets as a list of names."""
    rows = [json.loads(line) for line in run("--json")]
    assert rows[0]["host"] == "api.example.com"
    assert rows[0]["line"] == 17
    assert rows[0]["secrets"] == ["github"]
    assert rows[1]["status"] is None
    assert set(rows[0]) >= {"time", "id", "time_us", "state", "policy_hash", "address", "first_byte_us", "error"}


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--verdict", "deny"), ["id-1"]),
        (("--host", "*.com"), ["id-0", "id-2"]),
        (("--host", "github.com", "--verdict", "allow"), ["id-2"]),
        (("--reason", "upstream-unreachable"), ["id-4"]),
        (("--limit", "2"), ["id-3", "id-4"]),
        (("--since", "1h"), ["id-0", "id-1", "id-2", "id-3", "id-4"]),
        (("--since", "2100-01-01T00:00:00Z"), []),
        (("--sandbox", "other"), []),
    ],
)
def test_filters(arguments: tuple[str, ...], ids: list[str], run: Callable[..., list[str]]) -> None:
    """Each flag narrows."""
    assert [line.split("\t")[1] for line in run(*arguments)] == ids


@pytest.mark.parametrize("arguments", [("--since", "yesterday"), ("--verdict", "maybe"), ("--limit", "-1")])
def test_wrong_usage_exits_2(arguments: tuple[str, ...], app: typer.Typer, writer: AuditWriter) -> None:
    """What cannot be understood is said so before anything is read."""
    assert CliRunner().invoke(app, ["audit", "--audit", str(writer.path), *arguments]).exit_code == 2


def test_a_missing_database_is_an_error(app: typer.Typer, tmp_path: Path) -> None:
    """With the path, and without making anything; the program turns it into exit code 1."""
    result = CliRunner().invoke(app, ["audit", "--state-dir", str(tmp_path / "none")])
    assert isinstance(result.exception, AuditError)
    assert str(tmp_path / "none" / "audit.db") in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_verdicts_are_those_of_policies() -> None:
    """One word for one thing."""
    hint = str(get_type_hints(audit)["verdict"])
    assert all(f"'{verdict.value}'" in hint for verdict in Verdict)
    assert len(get_args(get_args(get_type_hints(audit)["verdict"])[0])) == len(Verdict)


@pytest.mark.parametrize("width", [40, 80, 100, 140, 200])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int, screen: Callable[[int], str]) -> None:
    """A row is a line at any width, and no wire text is a colour."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen(width))
    lines = plain.rstrip("\n").split("\n")
    assert len(lines) >= 7
    assert all(_harmless(line) and len(line.rstrip()) <= width for line in lines[:6])


def test_at_80_columns_the_table_says_who_where_and_why(screen: Callable[[int], str]) -> None:
    """The narrow table has verdict, method, destination, status and reason, and names what it leaves out."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen(80))
    assert re.search(r"deny +CONNECT +evil\.test:443 +host-not-allowed", text)
    assert re.search(r"allow +CONNECT +github\.com:443 +open +rule-allow", text)
    assert re.search(r"allow +POST +api\.example\.com/v1\?k=\S+ +200", text)
    assert "no room for sandbox" in text


def test_at_200_columns_the_table_has_everything(screen: Callable[[int], str]) -> None:
    """Nothing is left out where there is room."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen(200))
    titles = [
        "time",
        "verdict",
        "sandbox",
        "method",
        "destination",
        "status",
        "reason",
        "rule",
        "up/down",
        "took",
        "secrets",
    ]
    assert text.split("\n")[0].split() == titles
    assert "no room" not in text
    assert re.search(r"agent +POST .* 200 +rule-allow +agent\.yaml:17 +1\.8k/20k +81ms +github", text)


@pytest.mark.parametrize(
    ("count", "shown"), [(None, ""), (0, "0"), (999, "999"), (1834, "1.8k"), (9_999, "10k"), (4_300_000_000, "4.3G")]
)
def test_bytes_are_short(count: int | None, shown: str) -> None:
    """Three figures and a unit."""
    assert show_bytes(count) == shown


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        *((None, ""), (0, "0ms"), (81_000, "81ms"), (999_600, "1.0s"), (1_200_000, "1.2s"), (59_960_000, "1m00s")),
        *((185_000_000, "3m05s"), (7_800_000_000, "2h10m")),
    ],
)
def test_durations_are_short(micros: int | None, shown: str) -> None:
    """In the unit that a person would use."""
    assert show_duration(micros) == shown


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", RUN, "audit", *arguments]


def test_it_loads_no_more_than_it_needs(writer: AuditWriter) -> None:
    """Neither mitmproxy nor credentials, nor the configuration when the folder is named."""
    for arguments in (("--state-dir", str(writer.path.parent)), ("--audit", str(writer.path), "--json")):
        done = subprocess.run(_command(*arguments), capture_output=True, text=True, timeout=30, check=True)
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == 5


def test_a_reader_that_has_seen_enough_ends_it_quietly(writer: AuditWriter) -> None:
    """`egress audit | head -1`."""
    command = f'{sys.executable} -c "$RUN" audit --follow --json --audit {writer.path} | head -1'
    for number in range(100, 3000):
        writer.offer(
            DecisionEvent(id=str(number), time_us=1, sandbox="s", client="c", verdict="allow", reason="r" * 100)
        )
    assert writer.flush(5)
    done = subprocess.run(
        ["bash", "-c", command.replace("--follow", "--limit 5000")],
        env=os.environ | {"RUN": RUN},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_follow_shows_rows_as_they_come_until_interrupted(writer: AuditWriter) -> None:
    """New rows within a second, and the outcome of what was open; Ctrl-C ends it without a traceback."""
    with subprocess.Popen(
        _command("--follow", "--limit", "1", "--audit", str(writer.path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().split("\t")[1] == "id-4"
        writer.offer(
            DecisionEvent(id="new", time_us=NOW_US, sandbox="s", client="c", verdict="allow", reason="rule-allow")
        )
        assert process.stdout.readline().split("\t")[1:3] == ["new", "open"]
        writer.offer(OutcomeEvent(id="new", time_us=NOW_US, status=200))
        assert process.stdout.readline().split("\t")[1:3] == ["new", "done"]
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait(10) == 130


def test_a_terminal_gets_the_table(writer: AuditWriter) -> None:
    """With `--table`: titles, colours for verdicts, and a last line; `--plain` gives lines there too."""
    text = _on_terminal(_command("--table", "--audit", str(writer.path)))
    assert "destination" in text
    assert "\x1b[32mallow" in text
    assert "5 rows" in text
    assert "\x1b[2J" not in text
    assert "\t" in _on_terminal(_command("--plain", "--audit", str(writer.path)))


@pytest.mark.parametrize("option", ["--limit=5", "--fail-on-deny", "--table", "--plain", "--json"])
def test_what_prints_rows_opens_no_viewer(writer: AuditWriter, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a terminal."""
    monkeypatch.setattr("egress.cli.audit._is_on_terminal", lambda: True)
    monkeypatch.setattr("egress.cli.audit._view", lambda *_: pytest.fail("it opened the viewer"))
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["audit", "--audit", str(writer.path), option])
    assert "api.example.com" in result.stdout


def test_a_terminal_gets_the_viewer_with_the_same_filter(writer: AuditWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the flags ask for is one text, which says the same when it is read again."""
    seen: list[object] = []
    monkeypatch.setattr("egress.cli.audit._is_on_terminal", lambda: True)
    monkeypatch.setattr("egress.cli.audit._view", lambda *given: seen.extend(given))
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    arguments = ["--filter", "verdict:deny -method:GET", "--sandbox", 'a "b', "--host", "-x", "--policy", "p.yaml"]
    result = CliRunner().invoke(app, ["audit", "--audit", str(writer.path), *arguments])
    assert result.exit_code == 0, result.output
    database, text, policy, *_ = seen
    assert (database, policy) == (writer.path, ["p.yaml"])
    expected = parse_filter("verdict:deny -method:GET", 0) & one("host", "-x") & one("sandbox", 'a "b')
    assert parse_filter(str(text), 0) == expected


@pytest.mark.parametrize(
    ("given", "viewer"),
    [
        (["--policy", "p.yaml"], False),
        (["--presets", "folder"], False),
        (["--config", "e.yaml"], False),
        (["--presets", "folder"], True),
        (["--config", "e.yaml"], True),
    ],
)
def test_what_serves_the_viewers_policy_is_refused_without_one(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, given: list[str], *, viewer: bool
) -> None:
    """Nobody takes its silence for an answer."""
    monkeypatch.setattr("egress.cli.audit._is_on_terminal", lambda: viewer)
    result = CliRunner().invoke(app, ["audit", *([] if viewer else ["--plain"]), *given])
    assert result.exit_code == 2
    assert "this serves the viewer's --policy, and nothing else" in " ".join(result.output.replace("│", "").split())


def test_a_saved_filter_goes_by_its_name(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--filter @NAME`, as in the viewer."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_filter(saved_file(), "evil", "host:evil.test")
    assert [line.split("\t")[6] for line in run("--filter", "@evil")] == ["evil.test:443"]


def _on_terminal(command: list[str]) -> str:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        output = b""
        try:
            while chunk := os.read(ours, 65536):
                output += chunk
        except OSError:  # the terminal is gone when its last writer is
            pass
        os.close(ours)
        assert process.stderr
        assert process.stderr.read() == b""
    return output.decode()

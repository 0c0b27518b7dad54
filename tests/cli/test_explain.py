"""`egress explain`: what people and programs get from it."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from egress.cli import explain
from egress.errors import ConfigError
from egress.policy import Reason

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
version: 1
secrets:
  key: {env: KEY, hosts: [api.example.com]}
rules:
  - name: model API
    allow: api.example.com
    inject: {x-api-key: "${key}"}
    remove: [Cookie]
  - ask: packages.example.com
  - allow: db.corp.example
    addresses: [10.0.0.0/8]
  - allow: streams.example.com
    http2: true
  - allow: closed.example.com
    tls: tunnel
  - name: gateway
    allow: llm.internal
    rewrite: {scheme: https, host: db.corp.example, path_prefix: {from: /v1, to: /api}}
  - name: calls
    allow: calls.example.com
    protocol: grpc
"""

app = typer.Typer()
explain.register(app)


@app.callback()
def root() -> None:
    """Make `explain` a command beside others, as it is in the real tree."""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """The policy above, as a path."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    """Exit code and standard output."""
    result = CliRunner().invoke(app, ["explain", *arguments], input=stdin)
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["https://api.example.com/"], 0, "rule-allow"),
        (["https://evil.test/"], 1, "host-not-allowed"),
        (["https://packages.example.com/"], 1, "approval-required"),
        (["https://127.1/"], 1, "host-invalid"),
        (["https://api.example.com/", "--address", "10.1.2.3"], 1, "address-not-public"),
        (["https://db.corp.example/", "--resolve", "db.corp.example:10.1.2.3"], 0, "rule-allow"),
        (["https://db.corp.example/", "--resolve", "db.corp.example:127.0.0.1"], 1, "address-not-public"),
        (["https://api.example.com/", "--header", "Host: evil.test"], 1, "name-mismatch"),
        (["https://api.example.com/", "--header", "no colon"], 1, "request-malformed"),
        (["https://api.example.com/", "--method", "G ET"], 1, "method-invalid"),
        (["https://api.example.com/", "--address", "nowhere"], 1, "request-malformed"),
        (["https://llm.internal/v1/x"], 0, "rule-allow"),
        (["http://llm.internal/v1/x", "--address", "10.1.2.3"], 0, "rule-allow"),
        (["https://llm.internal/v1/x", "--resolve", "db.corp.example:10.1.2.3"], 0, "rule-allow"),
        (["https://llm.internal/v1/x", "--resolve", "db.corp.example:127.0.0.1"], 1, "address-not-public"),
        (["https://llm.internal/v2"], 1, "path-not-allowed"),
        (["https://llm.internal/v1/..%2f"], 1, "path-ambiguous"),
        (["grpc://calls.example.com/pkg.Service/Call"], 0, "rule-allow"),
        (["grpc://calls.example.com/pkg.Service/Call", "--method", "GET"], 1, "protocol-not-allowed"),
        (["https://calls.example.com/pkg.Service/Call", "--method", "POST"], 1, "protocol-not-allowed"),
    ],
)
def test_exit_code_and_json_follow_the_verdict(policy: str, arguments: list[str], code: int, reason: str) -> None:
    """0 for allowed, 1 for denied or asked; one JSON object."""
    exit_code, output = run(*arguments, "--policy", policy, "--json")
    answer = json.loads(output)
    assert (exit_code, answer["reason"]) == (code, reason)
    assert {"verdict", "reason", "rule", "host", "port"} <= set(answer)


def test_sandbox_is_passed_on(policy: str) -> None:
    """The answer names the sandbox that was asked for."""
    assert (
        json.loads(run("https://api.example.com/", "--policy", policy, "--sandbox", "ci", "--json")[1])["sandbox"]
        == "ci"
    )


def test_text_names_verdict_rule_line_scope_and_secret(policy: str) -> None:
    """What a person wants to know, and no value of a secret."""
    code, output = run("https://api.example.com/", "--policy", policy)
    assert code == 0
    for part in (
        "ALLOW",
        "rule-allow",
        "model API",
        "policy.yaml:5",
        "scope sandbox",
        "x-api-key (secret key)",
        "Cookie",
        "inspect",
    ):
        assert part in output


def test_a_rewritten_request_shows_both_judgements(policy: str) -> None:
    """What was asked, where it would go, and what the scopes say to each."""
    _, output = run("https://llm.internal/v1/x", "--policy", policy)
    rows = [" ".join(line.split()) for line in output.splitlines()]
    assert "destination llm.internal port 443, https" in rows
    first = next(place for place, row in enumerate(rows) if row.startswith("scope"))
    assert rows[first].endswith("policy.yaml:16)")
    sent = rows.index("rewritten to db.corp.example port 443, https, /api/x")
    assert sent > first
    assert rows[sent + 1].endswith("policy.yaml:10)")
    answer = json.loads(run("https://llm.internal/v1/x", "--policy", policy, "--json")[1])
    assert (answer["host"], answer["rule"]["name"]) == ("llm.internal", "gateway")
    told = answer["rewritten"]
    assert (told["by"]["name"], told["host"], told["port"], told["path"]) == (
        "gateway",
        "db.corp.example",
        443,
        "/api/x",
    )
    assert [(say["verdict"], say["rule"]["line"]) for say in told["scopes"]] == [("allow", 10)]
    assert "rewritten" not in json.loads(run("https://db.corp.example/", "--policy", policy, "--json")[1])


@pytest.mark.parametrize(
    ("url", "lane", "sentence"),
    [
        ("https://api.example.com/", "http", "read as HTTP/1.1"),
        ("https://streams.example.com/", "mitm", "carried as HTTP/2, which a rule asks for"),
        ("https://closed.example.com/", "tunnel", "passes unopened"),
        ("grpc://calls.example.com/pkg.Service/Call", "mitm", "carried as HTTP/2"),
        ("https://evil.test/", None, None),
    ],
)
def test_the_lane_is_named(policy: str, url: str, lane: str | None, sentence: str | None) -> None:
    """In the text with a sentence, in JSON as the audit has it; nothing where none is picked."""
    output = run(url, "--policy", policy)[1]
    assert json.loads(run(url, "--policy", policy, "--json")[1])["lane"] == lane
    line = next((line.split(maxsplit=1)[1] for line in output.splitlines() if line.split()[0] == "lane"), None)
    if lane is None:
        assert line is None
    else:
        assert line is not None
        assert line.startswith(f"{lane}: {sentence}")


def test_text_of_a_denial_says_what_to_do(policy: str) -> None:
    """A denial carries its hint."""
    output = run("https://evil.test/", "--policy", policy)[1]
    assert "DENY" in output
    assert "add `allow: HOST` to the policy" in output


def test_text_of_a_url_cannot_act_on_the_terminal(policy: str) -> None:
    """INVARIANT hostile-text: escapes, markup and line breaks of a URL are shown, not obeyed."""
    output = run("https://evil.test/\x1b]0;x\x07[bold red]\n\u202e", "--policy", policy)[1]
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "[bold red]" in output
    assert r"\x1b]0;x\x07" in output


def test_lines_are_answered_in_order_and_none_stops_the_stream(policy: str) -> None:
    """A line for each, bad ones too; the exit code says that all were answered."""
    lines = [
        b'{"url": "https://api.example.com/"}',
        b"not json",
        b"",
        b'{"url": "https://127.1/"}',
        b'{"url": "https://api.example.com/", "address": "127.0.0.1"}',
        b"\xff",
        b'{"url": "https://evil.test/\\u001b[31m"}',
        b"x" * 1_000_000,
        b'{"url": "https://packages.example.com/"}',
    ]
    code, output = run("-", "--json", "--policy", policy, stdin=b"\n".join(lines))
    answers = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert [answer["reason"] for answer in answers] == [
        "rule-allow", "request-malformed", "request-malformed", "host-invalid", "address-not-public", "request-malformed",
        "request-malformed", "request-malformed", "approval-required",
    ]  # fmt: skip
    assert all(answer["verdict"] != "allow" for answer in answers[1:])
    assert output.isascii()


def test_a_body_is_read_from_a_file_or_standard_input(policy: str, tmp_path: Path) -> None:
    """What it asks for decides, and the answer says so; the type is JSON unless a header says another."""
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\nrules:\n  - {allow: api.example.com, graphql: {operations: [query]}}\n")
    url, body = "https://api.example.com/graphql", tmp_path / "body.json"
    body.write_text('{"query": "{ viewer }"}')
    asked = (url, "--method", "POST", "--policy", str(own))
    assert run(*asked, "--body", str(body))[0] == 0
    code, text = run(*asked, "--body", "-", stdin=b'{"query": "mutation Drop { a }"}')
    assert (code, "mutation Drop" in text) == (1, True)
    assert "body-unreadable" in run(*asked, "--body", str(body), "--header", "Content-Type: text/plain")[1]
    assert "--body" in run(*asked)[1]
    assert run(*asked, "--body", str(tmp_path / "missing"))[0] == 2
    assert run("-", "--json", "--policy", policy, "--body", "-")[0] == 2


def test_lines_need_json(policy: str) -> None:
    """`-` without `--json` is a usage error, not an empty answer."""
    assert run("-", "--policy", policy)[0] == 2


def test_policy_is_required() -> None:
    """Without a policy there is nothing to ask."""
    assert run("https://api.example.com/")[0] == 2


def test_bad_pin_is_a_usage_error(policy: str) -> None:
    """A pin that cannot be read is told, not ignored."""
    assert run("https://api.example.com/", "--policy", policy, "--resolve", "x")[0] == 2


def test_broken_policy_is_an_error_not_a_denial(tmp_path: Path) -> None:
    """A file that does not load is never half-used."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nrulez: []\n")
    with pytest.raises(ConfigError, match="did you mean `rules`"):
        run("https://api.example.com/", "--policy", str(path))


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_code_is_explained(reason: Reason) -> None:
    """`egress explain CODE` needs no policy."""
    code, output = run(reason.value)
    assert code == 0
    assert output.startswith(f"{reason.value}: ")
    assert json.loads(run(reason.value, "--json")[1])["reason"] == reason.value


PROGRAM = """
import sys, typer
from egress.cli import explain
app = typer.Typer()
explain.register(app)
code = 0
try:
    app()
except SystemExit as exit:
    code = exit.code
loaded = [name for name in sys.modules if name.partition(".")[0] == "mitmproxy" or name.startswith((
    "egress.credentials", "egress.audit", "egress.gate", "egress.mitm", "egress.certs", "sqlite_utils", "cryptography"))]
print(loaded, file=sys.stderr)
sys.exit(code)
"""


def test_explain_loads_neither_mitmproxy_nor_credentials(policy: str) -> None:
    """So it starts fast, and no value of a secret is anywhere near it."""
    arguments = ["https://api.example.com/", "--policy", policy]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_explain_opens_no_socket(policy: str) -> None:
    """Without any network: a program that cannot make sockets still answers."""
    guard = "import socket\nclass Never(socket.socket):\n    def __init__(self, *a, **k): raise SystemExit(99)\nsocket.socket = Never\n"
    guard += "socket.getaddrinfo = lambda *a, **k: (_ for _ in ()).throw(SystemExit(98))\n"
    arguments = ["https://api.example.com/", "--policy", policy, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", guard + PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "allow"

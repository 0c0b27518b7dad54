"""`egress secret`: what it keeps, tells and refuses; that no value is ever printed; and that the guide is true."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from documents import ROOT, blocks
from secret_stores import KEY
from typer.testing import CliRunner

from egress.cli.main import app
from egress.config import ServerOverrides, default_key_source, load_server_config
from egress.credentials.secret_store import SecretStore
from egress.errors import ConfigError, CredentialError, EgressError, StateError

GUIDE = ROOT / "docs" / "guides" / "secrets.md"
CANARY = "ghp_canary4711"
COMMAND = "from egress.cli.main import main; main()"
# In a session of its own, so that the terminal is the one that is asked.
ON_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with nothing yet: a state folder, and a key file outside it."""
    monkeypatch.setenv("EGRESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("EGRESS_SECRETS_KEY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    # Root's default is a folder of the machine's.
    monkeypatch.setattr("egress.config.default_key_source", lambda env, **_: default_key_source(env, user=1000))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, value: str = "", status: int = 0) -> tuple[str, str]:
    """Run a command with a value on standard input; give what it printed, which never holds the canary."""
    result = CliRunner().invoke(app, ["secret", *arguments], input=value)
    assert CANARY not in result.output
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout, result.stderr


def refused(*arguments: str, value: str = "") -> EgressError:
    """Run a command that fails with one of our errors; give it."""
    result = CliRunner().invoke(app, ["secret", *arguments], input=value)
    assert isinstance(result.exception, EgressError), result.output
    assert CANARY not in str(result.exception)
    return result.exception


def listed() -> dict[str, dict[str, object]]:
    """Give what `list --json` says, by name."""
    return {secret["name"]: secret for secret in json.loads(run("list", "--json")[0])["secrets"]}


def test_set_keeps_and_then_rotates(home: Path) -> None:
    """The first needs a host, the next keeps it and says so; other hosts replace those that there were."""
    told, _ = run("set", "github", "--host", "api.github.com", "--method", "GET", "--path", "/repos/**", value=CANARY)
    assert told == (
        "kept github; it may go to api.github.com; GET; /repos/**\n"
        "a policy names it so: secrets: {github: {store: github}}\n"
    )
    told, _ = run("set", "github", value=f"{CANARY}-2\n")
    assert told == "rotated github to version 2; as before, it may go to api.github.com; GET; /repos/**\n"
    told, _ = run("set", "github", "--host", "github.com", value=f"{CANARY}-3\r\n")
    assert told == (
        "rotated github to version 3; it may go to github.com\nbefore, it might go to api.github.com; GET; /repos/**\n"
    )
    key = KEY.of_text((home / "config" / "egress" / "secrets.key").read_text(), "the file")
    with SecretStore.open(home / "state" / "secrets.db", key) as store:
        assert store.get("github").value.reveal() == f"{CANARY}-3"


def test_a_key_in_lines_is_kept_whole_from_a_file(home: Path) -> None:
    """Without the last line break; a warning says what it cannot be used for."""
    pem = f"-----BEGIN KEY-----\n{CANARY}\n-----END KEY-----"
    (home / "app.pem").write_text(f"{pem}\n")
    _, told = run("set", "app", "--host", "api.github.com", "--from-file", "app.pem")
    assert told.startswith("warning: app has lines or characters that no header can carry")
    key = KEY.of_text((home / "config" / "egress" / "secrets.key").read_text(), "the file")
    with SecretStore.open(home / "state" / "secrets.db", key) as store:
        assert store.get("app").value.reveal() == pem


def test_a_value_on_the_command_line_is_refused_and_not_repeated() -> None:
    """As a second argument, behind an option that there is not, or in place of the name."""
    _, told = run("set", "github", CANARY, "--host", "api.github.com", status=2)
    assert "never stands on the command line" in told
    assert "replace it where it was issued" in told
    for option in (f"--value={CANARY}", f"--token={CANARY}"):
        assert "No such option" in run("set", "github", option, status=2)[1]
    assert "NAME" in run("set", f"{CANARY}+/=", "--host", "api.github.com", status=2)[1]
    assert not Path("state").exists()


def test_nothing_is_kept_of_what_is_wrong() -> None:
    """A new secret without a host, hosts that anyone can register, no value, one that is no text, a missing file."""
    assert "--host" in run("set", "github", value=CANARY, status=2)[1]
    assert isinstance(refused("set", "github", "--host", "*.com", value=CANARY), ConfigError)
    for value in ("", "\n", f"{CANARY}\0"):
        assert isinstance(refused("set", "github", "--host", "a.example.com", value=value), CredentialError)
    error = refused("set", "github", "--host", "a.example.com", "--from-file", "missing")
    assert "cannot open the file `missing`" in error.message
    assert listed() == {}


def test_a_wildcard_is_kept_with_a_warning() -> None:
    """Each host below it gets the value."""
    _, told = run("set", "wide", "--host", "*.example.com", "--host", "a.example.com", value=CANARY)
    assert told == "warning: *.example.com stands for more than one host: each of them gets the value\n"


def test_list_shows_everything_but_values(home: Path) -> None:
    """As a table, and as JSON; text of the store is escaped."""
    run("set", "github", "--host", "api.github.com", "--method", "GET", value=CANARY)
    run("set", "model", "--host", "api.example.com:8443", "--path", "/v1/é", value=CANARY)
    key = KEY.of_text((home / "config" / "egress" / "secrets.key").read_text(), "the file")
    with SecretStore.open(home / "state" / "secrets.db", key) as store:
        store.used("github", time.time() - 7_300)
    lines = run("list")[0].splitlines()
    assert [re.split(r"  +", line)[:2] for line in lines] == [["NAME", "VERSION"], ["github", "1"], ["model", "1"]]
    assert re.search(r"  2h ago  +api\.github\.com; GET$", lines[1])
    assert re.search(r"  -  +api\.example\.com:8443; /v1/é$", lines[2])
    found = listed()
    assert (found["github"]["hosts"], found["github"]["methods"], found["model"]["paths"]) == (
        ["api.github.com"],
        ["GET"],
        ["/v1/é"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(found["github"]["last_used"]))
    assert found["model"]["last_used"] is None


def test_rm_asks_or_is_told() -> None:
    """Without a terminal only with `--yes`; what is not there is an error."""
    run("set", "github", "--host", "api.github.com", value=CANARY)
    assert "add `--yes`" in run("rm", "github", status=1)[1]
    assert list(listed()) == ["github"]
    assert run("rm", "github", "--yes")[0] == "removed github\n"
    assert run("list")[0] == "no secrets\n"
    assert "the store has no secret `github`" in refused("rm", "github", "--yes").message


def test_without_a_store_it_says_how_to_make_one(home: Path) -> None:
    """And makes none, nor a key."""
    for command in (["list"], ["rm", "github", "--yes"], ["rekey"], ["placeholder", "github"]):
        error = refused(*command)
        assert isinstance(error, StateError)
        assert "egress secret set NAME --host HOST" in error.hint
    assert [file.name for file in home.iterdir()] == []


def test_a_store_whose_key_is_gone_gets_no_new_one(home: Path) -> None:
    """The key that it was written with is what helps."""
    run("set", "github", "--host", "api.github.com", value=CANARY)
    key = home / "config" / "egress" / "secrets.key"
    key.rename(home / "kept.key")
    assert "there is no key file" in refused("set", "github", value="x").message
    assert not key.exists()
    (home / "kept.key").rename(key)
    assert list(listed()) == ["github"]


def test_rekey_in_place_and_into_another_file(home: Path) -> None:
    """What was the key opens nothing any more."""
    run("set", "github", "--host", "api.github.com", value=CANARY)
    path = home / "config" / "egress" / "secrets.key"
    first = path.read_text()
    assert "a proxy that runs takes it over" in run("rekey")[0]
    assert path.read_text() != first
    assert list(listed()) == ["github"]
    other = home / "keys" / "other.key"
    run("rekey", "--new-key-file", str(other))
    assert "another key" in refused("list").message
    assert "github" in run("list", "--secrets-key-file", str(other))[0]
    assert (
        "inside the state folder"
        in refused("rekey", "--secrets-key-file", str(other), "--new-key-file", "state/key").message
    )
    again = refused("rekey", "--secrets-key-file", str(other), "--new-key-file", str(other))
    assert "has already" in again.message


def test_the_key_may_come_from_the_environment_or_the_configuration(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the environment without a word, and it is taken out of it; a rekey then needs a file."""
    monkeypatch.setenv("EGRESS_SECRETS_KEY", KEY.text())
    run("set", "github", "--host", "api.github.com", value=CANARY)
    assert "EGRESS_SECRETS_KEY" not in os.environ
    monkeypatch.setenv("EGRESS_SECRETS_KEY", KEY.text())
    assert "--new-key-file" in refused("rekey").hint
    (home / "the.key").write_text(KEY.text())
    (home / "the.key").chmod(0o600)
    (home / "egress.yaml").write_text("secrets_key: {file: the.key}\n")
    assert "github" in run("list", "--config", "egress.yaml")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "secrets_key: the store has one key, from one source, and this names none"),
        ("{file: a, env: B}", "secrets_key: the store has one key, from one source, and this names `file` and `env`"),
        ("{fil: a}", "secrets_key.fil: unknown key, did you mean `file`?"),
        ("{command: tool}", "secrets_key.command: should be a list, not text"),
        ("{command: []}", "secrets_key.command: "),
        ("/etc/key", "secrets_key: should be a mapping"),
    ],
)
def test_a_mistake_about_the_key_is_told_with_its_place(home: Path, text: str, message: str) -> None:
    """Like all of the configuration's."""
    (home / "egress.yaml").write_text(f"secrets_key: {text}\n")
    with pytest.raises(ConfigError) as error:
        load_server_config(home / "egress.yaml", ServerOverrides(), {})
    assert f"egress.yaml:1: {message}" in str(error.value)


def test_a_placeholder_is_harmless_and_stays() -> None:
    """The same after a rotation, another for another secret, in another folder too."""
    for name in ("github", "model"):
        run("set", name, "--host", "api.example.com", value=CANARY)
    first = run("placeholder", "github")[0]
    run("set", "github", value=f"{CANARY}-2")
    assert run("placeholder", "github")[0] == first
    assert len({first, run("placeholder", "model")[0]}) == 2
    assert "no secret `other`" in refused("placeholder", "other").message


def test_the_help_shows_no_place_for_a_value() -> None:
    """Each command has examples, and `egress --help` has the group."""
    for command in ("set", "list", "rm", "rekey", "placeholder"):
        told, _ = run(command, "--help")
        assert f"egress secret {command}" in told
        assert "value" not in told.split("\n")[0].lower()
    assert re.search(r"^\W*secret ", CliRunner().invoke(app, ["--help"]).stdout, re.MULTILINE)


def typed(home: Path, *arguments: str, text: str) -> tuple[int, str]:
    """Run a command on a terminal of its own, type a line, and give its status and all that the terminal showed."""
    main, other = pty.openpty()
    env = {**os.environ, "TERM": "dumb"}
    command = [sys.executable, "-c", COMMAND, "secret", *arguments, "--secrets-key-file", str(home / "keys" / "k")]
    words = [sys.executable, "-c", ON_TERMINAL, *command]
    with subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env=env) as process:
        os.close(other)
        shown = bytearray()

        def read() -> None:
            while True:
                try:
                    data = os.read(main, 4096)
                except OSError:
                    return
                if not data:
                    return
                shown.extend(data)

        thread = threading.Thread(target=read)
        thread.start()
        deadline = time.monotonic() + 60
        while not re.search(rb"(not shown\)|\]): $", bytes(shown)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for at in range(0, len(text) + 1, 1_000):
            os.write(main, f"{text}\n"[at : at + 1_000].encode())
            time.sleep(0.02)
        killer = threading.Timer(40, process.kill)
        killer.start()
        status = process.wait()
        killer.cancel()
        thread.join(timeout=60)
        os.close(main)
    return status, shown.decode()


def test_on_a_terminal_the_value_is_asked_for_and_not_shown(home: Path) -> None:
    """Once; then removing asks too, and `n` keeps it."""
    status, shown = typed(home, "set", "github", "--host", "api.github.com", text=CANARY)
    assert status == 0, shown
    assert "Value of github (not shown):" in shown
    assert "kept github" in shown
    assert CANARY not in shown
    status, shown = typed(home, "rm", "github", text="n")
    assert (status, "Remove the secret github?" in shown) == (1, True)
    status, shown = typed(home, "rm", "github", text="y")
    assert (status, "removed github" in shown) == (0, True)


def test_a_line_that_a_terminal_cuts_off_is_not_kept(home: Path) -> None:
    """A longer one would be kept without its end, and nobody would know."""
    status, shown = typed(home, "set", "github", "--host", "api.github.com", text="a" * 4_200)
    assert (status, "too long to be typed" in shown) == (1, True)


def commands() -> list[str]:
    """Give the command lines of the guide's shell blocks that are ours."""
    joined = [line for block in blocks(GUIDE, "sh") for line in block.text.replace("\\\n", " ").splitlines()]
    return [line for line in joined if "egress secret" in line]


def test_the_guides_commands_work_in_their_order(home: Path) -> None:
    """What is piped in, or read from a file, stands for itself here."""
    (home / "app.pem").write_text("-----BEGIN\nKEY-----\n")
    lines = commands()
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line.rpartition("|")[2].strip().partition(" >")[0], comments=True)
        words = [word.replace("/etc/egress", str(home / "keys")) for word in words]
        result = CliRunner().invoke(app, words[1:], input=CANARY)
        assert result.exit_code == 0, (line, result.output, result.exception)
        assert CANARY not in result.output
        if "--new-key-file" in line:
            # What the guide says is left to do.
            shutil.copy(home / "keys" / "secrets-2.key", home / "config" / "egress" / "secrets.key")


def test_the_guide_names_every_command_and_source() -> None:
    """What is not there, nobody finds."""
    text = GUIDE.read_text()
    for word in ("set", "list", "rm", "rekey", "placeholder"):
        assert f"egress secret {word}" in text
    for key in ("file", "env", "command", "keyring", "systemd"):
        assert f"`{{{key}: " in text


@pytest.mark.parametrize("block", blocks(GUIDE, "yaml"), ids=str)
def test_the_guides_configuration_loads(home: Path, block: object) -> None:
    """What people copy works, and says where the key is."""
    (home / "egress.yaml").write_text(block.text)  # type: ignore[attr-defined]
    assert load_server_config(home / "egress.yaml", ServerOverrides(), {}).secrets_key is not None

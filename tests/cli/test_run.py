"""`egress run`: its flags, what a configuration file says in their place, and which of the two wins."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from egress.cli import run as run_module
from egress.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

    from egress.config import ServerConfig

# Each flag, and the lines of a configuration file that say the same; `{folder}` is the file's own folder.
SAME = {
    "policy": (["--policy", "{folder}/own.yaml"], "policy: own.yaml"),
    "policies": (["--policy", "{folder}/own.yaml", "--policy", "starter"], "policy: [own.yaml, starter]"),
    "scope": (["--policy", "org={folder}/own.yaml"], "scopes: {org: [own.yaml]}"),
    "listen": (["--listen", "127.0.0.2:8080"], "listen: 127.0.0.2:8080"),
    "listen on a socket": (["--listen", "unix:{folder}/p.sock"], "listen: 'unix:p.sock'"),
    "listen on ipv6": (["--listen", "[::1]:0"], "listen: '[::1]:0'"),
    "transparent": (
        ["--transparent", "0.0.0.0:3129", "--transparent", "[::]:3129"],
        "transparent: {listen: ['0.0.0.0:3129', '[::]:3129']}",
    ),
    "state_dir": (["--state-dir", "{folder}/there"], "state_dir: there"),
    "audit": (["--audit", "{folder}/a.db"], "audit: {path: a.db}"),
    "audit_stream": (["--audit-stream", "udp://127.0.0.1:514"], "audit: {stream: 'udp://127.0.0.1:514'}"),
    "ca_dir": (["--ca-dir", "{folder}/authority"], "ca_dir: authority"),
    "secrets_key_file": (["--secrets-key-file", "{folder}/a.key"], "secrets_key: {file: a.key}"),
    "upstream_ca": (
        ["--upstream-ca", "{folder}/a.pem", "--upstream-ca", "{folder}/b.pem"],
        "upstream: {ca: [a.pem, b.pem]}",
    ),
    "upstream_proxy": (["--upstream-proxy", "http://10.0.0.1:3128"], "upstream: {proxy: 'http://10.0.0.1:3128'}"),
    "admin": (["--admin", "127.0.0.1:9180"], "admin: 127.0.0.1:9180"),
    "dns": (["--dns", "127.0.0.1:5353"], "dns: {listen: 127.0.0.1:5353}"),
    "resolve": (
        ["--resolve", "a.test:10.0.0.1", "--resolve", "b.test:10.0.0.2"],
        "resolve: {a.test: 10.0.0.1, b.test: 10.0.0.2}",
    ),
    "workers": (["--workers", "4"], "workers: 4"),
    "mitm": (["--mitm", "warm"], "mitm: warm"),
    "presets": (["--presets", "{folder}/mine"], "presets: mine"),
    "lane": (["--lane", "mitm"], "lane: mitm"),
    "watch": (["--no-watch"], "watch: false"),
    "last_known_good": (["--no-last-known-good"], "last_known_good: false"),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[ServerConfig]]:
    """The configurations that would have been served, in place of serving them; logging is put back."""
    configs: list[ServerConfig] = []

    def serve(config: ServerConfig, on_started: object) -> int:
        del on_started
        configs.append(config)
        return 0

    monkeypatch.setattr("egress.server.run.serve", serve)
    monkeypatch.setenv("EGRESS_STATE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield configs
    root.handlers[:], root.level = handlers, level


def run(*arguments: str) -> Result:
    """Run `egress run` with these arguments."""
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    run_module.register(app)
    return CliRunner().invoke(app, ["run", *arguments])


def config_of(served: list[ServerConfig], *arguments: str) -> ServerConfig:
    """What `egress run` serves with these arguments."""
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return served.pop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a policy and two roots."""
    (tmp_path / "own.yaml").write_text("version: 1\nrules: [{allow: a.test}]\n")
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(("flags", "text"), SAME.values(), ids=SAME.keys())
def test_every_flag_works_from_the_config_file(
    flags: list[str], text: str, folder: Path, served: list[ServerConfig]
) -> None:
    """The same configuration, whichever way it is said."""
    path = folder / "egress.yaml"
    path.write_text(text + "\n")
    by_file = config_of(served, "--config", str(path))
    by_flag = config_of(served, *(flag.format(folder=folder) for flag in flags))
    names = (
        "listen",
        "state_dir",
        "audit",
        "ca_dir",
        "upstream",
        "resolve",
        "policies",
        "workers",
        "mitm",
        "lane",
        "presets",
        "secrets_key",
        "dns",
    )
    for name in names:
        assert getattr(by_file, name) == getattr(by_flag, name), name
    assert by_flag != config_of(served), "the flag changes nothing"


def test_every_flag_of_the_command_is_in_that_table() -> None:
    """A flag that is added gets its line of the configuration file."""
    import inspect

    known = {flags[0].removeprefix("--").removeprefix("no-").replace("-", "_") for flags, _ in SAME.values()}
    assert set(inspect.signature(run_module.run).parameters) - {"config", "verbose"} == known


def test_the_guide_names_every_flag() -> None:
    """Beside the key that says the same."""
    import inspect

    guide = (Path(__file__).parents[2] / "docs" / "guides" / "configuration.md").read_text()
    flags = {f"`--{name.replace('_', '-')}" for name in inspect.signature(run_module.run).parameters}
    assert {flag for flag in flags if flag not in guide} == {"`--verbose"}


@pytest.mark.parametrize(
    ("text", "flags", "name", "value"),
    [
        ("listen: 127.0.0.1:1111", ["--listen", "127.0.0.1:2222"], "listen", ("127.0.0.1", 2222)),
        ("state_dir: there", ["--state-dir", "/elsewhere"], "state_dir", Path("/elsewhere")),
        ("ca_dir: there", ["--ca-dir", "/elsewhere"], "ca_dir", Path("/elsewhere")),
        ("workers: 8", ["--workers", "1"], "workers", 1),
        ("mitm: warm", ["--mitm", "lazy"], "mitm", "lazy"),
        ("lane: mitm", ["--lane", "http"], "lane", "http"),
        ("lane: mitm", ["--lane", "auto"], "lane", None),
    ],
)
def test_flags_win_over_the_file(
    text: str, flags: list[str], name: str, value: object, *, folder: Path, served: list[ServerConfig]
) -> None:
    """Said in both places: the command line's word."""
    path = folder / "egress.yaml"
    path.write_text(text + "\n")
    assert getattr(config_of(served, "--config", str(path), *flags), name) == value


def test_the_defaults(served: list[ServerConfig]) -> None:
    """Nothing said: loopback only, the default port, files in the state folder, one worker, no forced lane."""
    config = config_of(served)
    assert config.listen == ("127.0.0.1", 3128)
    assert config.audit.path == config.state_dir / "audit.db"
    assert config.ca_dir == config.state_dir / "ca"
    assert (config.policies, dict(config.resolve), config.upstream.ca) == ((), {}, ())
    assert (config.workers, config.mitm, config.lane) == (1, "lazy", None)


@pytest.mark.parametrize(
    "flags",
    [
        ["--listen", "example.com:80"],
        ["--listen", "nonsense"],
        ["--resolve", "a.test"],
        ["--resolve", "a.test:not-an-address"],
        ["--policy", "no-such-policy"],
        ["--policy", "nowhere=starter"],
        ["--workers", "0"],
        ["--workers", "65"],
        ["--mitm", "hot"],
        ["--lane", "fast"],
        ["--lane", "MITM"],
    ],
)
def test_a_flag_that_cannot_be_read_is_an_error_with_its_name(flags: list[str], served: list[ServerConfig]) -> None:
    """Nothing is served; the problem names the flag."""
    result = run(*flags)
    assert isinstance(result.exception, ConfigError)
    assert all(problem.file == flags[0] for problem in result.exception.problems)
    assert served == []


@pytest.mark.parametrize("flags", [["--no-such-flag"], ["--listen"], ["--workers", "many"], ["positional"]])
def test_a_wrong_command_line_is_exit_status_2(flags: list[str], served: list[ServerConfig]) -> None:
    """The command line itself is wrong, not what it asks."""
    assert run(*flags).exit_code == 2
    assert served == []


def test_the_examples_of_the_help_are_command_lines_that_parse(
    served: list[ServerConfig], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Each `egress run` line of --help, run as it stands, in a folder that has what it names."""
    monkeypatch.chdir(folder)
    for name in ("policy.yaml", "corp-root.pem"):
        (folder / name).write_text("version: 1\n")
    text = run("--help").output
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("egress run ")]
    assert len(lines) >= 3
    for line in lines:
        assert config_of(served, *shlex.split(line)[2:]).policies


def test_the_help_says_what_signals_do() -> None:
    """Operators reload and stop by signal."""
    text = run("--help").output
    assert "HUP" in text
    assert "TERM" in text


def test_the_help_says_that_a_forced_lane_is_for_tests() -> None:
    """Nobody should reach for it to get speed."""
    words = " ".join(run("--help").output.split())
    assert "For tests: this lane carries whatever it can." in words
    assert "--workers" in words


@pytest.mark.parametrize(("flags", "level"), [([], logging.WARNING), (["-v"], logging.INFO)])
def test_verbose_logs_more(flags: list[str], level: int, served: list[ServerConfig]) -> None:
    """Warnings, or information too; never debug, where libraries repeat the wire."""
    config_of(served, *flags)
    assert logging.getLogger().level == level


@pytest.mark.parametrize("hostile", ["a\x1b[2Jb", "a\rb", "a\x07b", "a\u202eb", "a\x9bb"])
def test_log_lines_are_escaped(hostile: str) -> None:
    """Nothing that a client sent can move the cursor, hide text or start a line."""
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "%s", (hostile,), None)
    told = run_module._Escaped("%(message)s").format(record)
    assert told.isprintable()
    assert told != hostile


def test_what_follows_the_first_line_of_a_message_is_set_in() -> None:
    """A traceback, or a list of problems, stays readable; nothing that a client sent looks like a line of ours."""
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "%s", ("one\n2026-01-01 ERROR two",), None)
    assert run_module._Escaped("%(message)s").format(record) == "one\n    2026-01-01 ERROR two"

"""The command as a whole: its groups, its errors as lines, its exit statuses."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from egress import __version__
from egress.cli import main as main_module
from egress.errors import ConfigError, EgressError, Problem, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS = ("run", "exec", "status", "reload", "explain", "allow", "deny", "policy", "audit", "ca", "env")


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Put back what a command does to the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command line."""
    monkeypatch.setattr(sys, "argv", ["egress", *arguments])
    code = 0
    try:
        main_module.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def raising(error: Exception) -> Callable[[], NoReturn]:
    """A command that fails."""

    def fail() -> NoReturn:
        raise error

    return fail


def test_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The package's own."""
    assert call(monkeypatch, capsys, "--version") == (0, f"egress {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is listed, and a page of its own."""
    code, listed, _ = call(monkeypatch, capsys, "--help")
    assert code == 0
    assert f"  {command} " in listed
    code, page, _ = call(monkeypatch, capsys, command, "--help")
    assert code == 0
    assert f"Usage: egress {command}" in page


@pytest.mark.parametrize("arguments", [("no-such-command",), ("run", "--no-such-flag"), ("--no-such-flag",)])
def test_a_wrong_command_line_is_exit_status_2(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it says so on standard error."""
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Error" in err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StartError("cannot listen"), "egress: cannot listen\n"),
        (StartError("cannot listen", hint="use another port"), "egress: cannot listen\n  use another port\n"),
        (EgressError("odd"), "egress: odd\n"),
        (
            ConfigError(
                [
                    Problem("p.yaml", 3, "rules[0]", "unknown key `alow`", "did you mean `allow`?"),
                    Problem("p.yaml", None, "", "the second"),
                ]
            ),
            "egress: p.yaml:3: rules[0]: unknown key `alow`, did you mean `allow`?\negress: p.yaml: the second\n",
        ),
    ],
)
def test_an_error_of_ours_is_lines_and_exit_status_1(
    error: EgressError, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, then what to do; every problem of a file; nothing on standard output; no traceback."""
    monkeypatch.setattr(main_module, "app", raising(error))
    assert call(monkeypatch, capsys) == (1, "", told)


def test_a_defect_is_not_dressed_up_as_an_error_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we did not foresee keeps its traceback."""
    monkeypatch.setattr(main_module, "app", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main_module.main()


def test_run_without_a_policy_says_which_to_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The most likely first mistake."""
    folder = tmp_path_factory.mktemp("state")
    code, out, err = call(monkeypatch, capsys, "run", "--state-dir", str(folder), "--listen", "127.0.0.1:0")
    assert (code, out) == (1, "")
    assert "--policy starter" in err

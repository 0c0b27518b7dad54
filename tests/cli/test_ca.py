"""`egress ca`: prints where the CA is and its certificate, and makes none unasked."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
import typer
from cryptography import x509
from typer.testing import CliRunner

from egress.certs import Authority
from egress.cli import ca
from egress.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: str | Path, env: dict[str, str | None] | None = None) -> Result:
    """Run `egress ca` with these arguments."""
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    ca.register(app)
    return CliRunner().invoke(app, ["ca", *map(str, arguments)], env=env)


def test_path_and_print_show_the_existing_ca(tmp_path: Path) -> None:
    """The path is absolute and holds what `print` prints, and nothing else is printed."""
    made = Authority.load_or_create(tmp_path / "ca")
    found = run("path", "--state-dir", tmp_path)
    assert (found.exit_code, found.stdout) == (0, f"{tmp_path / 'ca' / 'ca.pem'}\n")
    printed = run("print", "--ca-dir", tmp_path / "ca")
    assert (printed.exit_code, printed.stdout_bytes) == (0, made.certificate_pem)
    assert x509.load_pem_x509_certificate(printed.stdout_bytes) == made.certificate


@pytest.mark.parametrize("command", ["path", "print"])
def test_a_missing_ca_is_an_error_and_stays_missing(tmp_path: Path, command: str) -> None:
    """A CA in a folder that the proxy does not use would be trusted by clients and signed by nobody."""
    result = run(command, "--state-dir", tmp_path / "state")
    assert isinstance(result.exception, StateError)
    assert "egress run" in result.exception.hint
    assert result.stdout == ""
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["path", "print"])
def test_create_makes_it_once(tmp_path: Path, command: str) -> None:
    """For images that bake the CA in before the proxy first runs."""
    first = run(command, "--ca-dir", tmp_path / "ca", "--create")
    assert first.exit_code == 0
    assert run(command, "--ca-dir", tmp_path / "ca", "--create").stdout == first.stdout
    assert stat.S_IMODE((tmp_path / "ca" / "ca-key.pem").stat().st_mode) == 0o600


def test_the_state_folder_comes_from_the_environment(tmp_path: Path) -> None:
    """As for `egress run`."""
    Authority.load_or_create(tmp_path / "ca")
    result = run("path", env={"EGRESS_STATE_DIR": str(tmp_path)})
    assert result.stdout == f"{tmp_path / 'ca' / 'ca.pem'}\n"


def test_a_relative_folder_is_printed_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is for other programs, which start elsewhere."""
    Authority.load_or_create(tmp_path / "ca")
    monkeypatch.chdir(tmp_path)
    assert run("path", "--ca-dir", "ca").stdout == f"{tmp_path / 'ca' / 'ca.pem'}\n"


def test_the_key_is_never_printed(tmp_path: Path) -> None:
    """`print` is for clients."""
    result = run("print", "--ca-dir", tmp_path / "ca", "--create")
    assert "PRIVATE" not in result.output


@pytest.mark.parametrize(
    ("command", "example"), [("path", "egress ca path"), ("print", "egress ca print > egress-ca.pem")]
)
def test_help_shows_each_example_on_a_line(command: str, example: str) -> None:
    """An example that is wrapped into the next cannot be copied."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert example in [line.strip() for line in result.stdout.splitlines()]

"""`egress ca init` and `egress ca rotate`: a CA made as asked for, and replaced without breaking who trusts it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
import typer
from cryptography import x509
from typer.testing import CliRunner

from egress.certs import Authority, NameConstraints
from egress.cli import ca
from egress.errors import StateError
from egress.server import control_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from click.testing import Result

# Some old public roots have a serial number of zero.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def run(*arguments: str | Path) -> Result:
    """Run `egress ca` with these arguments."""
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    ca.register(app)
    return CliRunner().invoke(app, ["ca", *map(str, arguments)])


def test_init_makes_it_once(tmp_path: Path) -> None:
    """The key is its owner's alone, the state folder closed; said again, it is left as it is."""
    state = tmp_path / "state"
    first = run("init", "--state-dir", state)
    assert (first.exit_code, first.stdout) == (0, f"{state / 'ca' / 'ca.pem'}\n")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (state, state / "ca", state / "ca" / "ca-key.pem")]
    assert modes == [0o700, 0o700, 0o600]
    made = Authority.load(state / "ca").certificate
    assert run("init", "--state-dir", state).exit_code == 0
    assert Authority.load(state / "ca").certificate == made


def test_init_constrains_and_never_pretends_to(tmp_path: Path) -> None:
    """A CA that is there with other constraints, or with none, is an error that says what to do."""
    wanted = ["--name-constraint", ".corp.example", "--name-constraint", "10.0.0.0/8"]
    assert run("init", "--state-dir", tmp_path / "one", *wanted).exit_code == 0
    authority = Authority.load(tmp_path / "one" / "ca")
    assert authority.constraints == NameConstraints.parse(["corp.example", "10.0.0.0/8"])
    assert run("init", "--state-dir", tmp_path / "one", *wanted).exit_code == 0
    other = run("init", "--state-dir", tmp_path / "one", "--name-constraint", "other.example")
    assert isinstance(other.exception, StateError)
    assert "corp.example, 10.0.0.0/8" in other.exception.message
    assert run("init", "--state-dir", tmp_path / "two").exit_code == 0
    late = run("init", "--state-dir", tmp_path / "two", *wanted)
    assert isinstance(late.exception, StateError)
    assert "rotate --name-constraint" in late.exception.hint


def bundle(state: Path) -> list[x509.Certificate]:
    """Ours in the bundle, which come first."""
    found = x509.load_pem_x509_certificates((state / "ca-bundle.pem").read_bytes())
    return [own for own in found if "Egress CA" in own.subject.rfc4514_string()]


def test_rotate_replaces_it_and_writes_the_bundle(tmp_path: Path) -> None:
    """Prepared, then used: the bundle always holds what signs, and what will or did. No proxy runs: it is said."""
    old = Authority.load_or_create(tmp_path / "ca").certificate
    prepared = run("rotate", "--prepare", "--state-dir", tmp_path)
    assert prepared.exit_code == 0
    assert "say `egress ca rotate`" in prepared.stdout
    before, following = bundle(tmp_path)
    assert before == old
    rotated = run("rotate", "--state-dir", tmp_path)
    assert (rotated.exit_code, "the old one stays in the bundle until" in rotated.stdout) == (0, True)
    assert "no proxy runs with the state folder" in rotated.stderr
    assert Authority.load(tmp_path / "ca").certificate == following
    assert bundle(tmp_path) == [following, old]


def test_a_stolen_key_is_trusted_no_more(tmp_path: Path) -> None:
    """`--keep-days 0`."""
    old = Authority.load_or_create(tmp_path / "ca").certificate
    result = run("rotate", "--keep-days", "0", "--state-dir", tmp_path)
    assert "is trusted no more" in result.stdout
    assert old not in bundle(tmp_path)
    assert run("rotate", "--keep-days", "-1", "--state-dir", tmp_path).exit_code == 2


def answering(monkeypatch: pytest.MonkeyPatch, answer: Mapping[str, object]) -> list[tuple[Path, Mapping[str, object]]]:
    """A proxy that answers so; what it was asked."""
    asked: list[tuple[Path, Mapping[str, object]]] = []

    def ask(state: Path, request: Mapping[str, object], **_: float) -> Mapping[str, object]:
        asked.append((state, request))
        return answer

    made: Callable[..., Mapping[str, object]] = ask
    monkeypatch.setattr(control_client, "ask", made)
    return asked


def test_a_running_proxy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the bundle itself, with the roots that it was started with; not where nobody wants it told."""
    Authority.load_or_create(tmp_path / "ca")
    asked = answering(monkeypatch, {"done": True})
    result = run("rotate", "--state-dir", tmp_path)
    assert asked == [(tmp_path, {"command": "reload"})]
    assert "the running proxy has taken it over" in result.stdout
    assert not (tmp_path / "ca-bundle.pem").exists()
    silent = run("rotate", "--no-reload", "--state-dir", tmp_path)
    assert len(asked) == 1
    assert "until `egress reload` or its next start" in silent.stderr


def test_a_proxy_that_keeps_its_ca_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what keeps it; the new CA is there and waits."""
    old = Authority.load_or_create(tmp_path / "ca").certificate
    answering(monkeypatch, {"done": False, "problems": ["p.yaml:3: no"]})
    result = run("rotate", "--state-dir", tmp_path)
    assert isinstance(result.exception, StateError)
    assert "p.yaml:3: no" in result.exception.message
    assert Authority.load(tmp_path / "ca").certificate != old


def test_constraints_are_dropped_only_when_told_so(tmp_path: Path) -> None:
    """Not by silence, and not both at once."""
    Authority.load_or_create(tmp_path / "ca", constraints=NameConstraints.parse(["corp.example"]))
    run("rotate", "--state-dir", tmp_path)
    assert Authority.load(tmp_path / "ca").constraints
    both = run("rotate", "--state-dir", tmp_path, "--unconstrained", "--name-constraint", "x.example")
    assert both.exit_code == 2
    run("rotate", "--state-dir", tmp_path, "--unconstrained")
    assert not Authority.load(tmp_path / "ca").constraints

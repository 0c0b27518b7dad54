"""`egress ca bundle`, `p12` and `install`: the certificate where clients look for it, and never the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import pkcs12
from typer.testing import CliRunner

from egress.certs import Authority, bundle_pem, installing
from egress.cli import ca
from egress.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

# Some old public roots have a serial number of zero.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def run(*arguments: str | Path, said: str = "") -> Result:
    """Run `egress ca` with these arguments and this standard input."""
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    ca.register(app)
    return CliRunner().invoke(app, ["ca", *map(str, arguments)], input=said)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The CA of the state folder `tmp_path`."""
    return Authority.load_or_create(tmp_path / "ca")


def test_the_bundle_is_roots_and_ours(tmp_path: Path, authority: Authority) -> None:
    """Printed or written, the same bytes; with the roots of the configuration and of the command line."""
    more, flag = Authority.load_or_create(tmp_path / "more"), Authority.load_or_create(tmp_path / "flag")
    (tmp_path / "egress.yaml").write_text(f"upstream: {{ca: {more.certificate_path}}}\n")
    common = ["--state-dir", tmp_path, "--config", tmp_path / "egress.yaml", "--upstream-ca", flag.certificate_path]
    printed = run("bundle", *common)
    written = run("bundle", *common, "--output", tmp_path / "out" / "bundle.pem")
    assert (printed.exit_code, written.exit_code, written.stdout) == (0, 0, "")
    data = (tmp_path / "out" / "bundle.pem").read_bytes()
    assert data == printed.stdout_bytes
    found = x509.load_pem_x509_certificates(data)
    assert found[0] == authority.certificate
    assert flag.certificate in found
    assert len(found) > 50
    assert (tmp_path / "out" / "bundle.pem").stat().st_mode & 0o777 == 0o644


def test_the_bundle_for_java_is_pkcs12(tmp_path: Path, authority: Authority) -> None:
    """All roots, and only into a file."""
    assert run("bundle", "--p12", "--state-dir", tmp_path).exit_code == 2
    assert run("bundle", "--p12", "--state-dir", tmp_path, "--output", tmp_path / "all.p12").exit_code == 0
    assert (tmp_path / "all.p12").stat().st_size > len(bundle_pem(authority.trusted_pem)) / 2


# Arguments, standard input, and the password of the store.
PASSWORDS = [
    ([], "", "changeit"),
    (["--password-stdin"], "from a pipe\n", "from a pipe"),
    (["--ask-password"], "by hand\nby hand\n", "by hand"),
]


@pytest.mark.parametrize(("arguments", "said", "password"), PASSWORDS)
def test_p12_is_the_certificate_alone(
    tmp_path: Path, authority: Authority, arguments: list[str], said: str, password: str
) -> None:
    """Under Java's usual password or one that is given, which is never on the command line."""
    result = run("p12", "--state-dir", tmp_path, "--output", tmp_path / "egress.p12", *arguments, said=said)
    assert result.exit_code == 0, result.output
    found = pkcs12.load_pkcs12((tmp_path / "egress.p12").read_bytes(), password.encode())
    assert found.key is None
    assert [own.certificate for own in found.additional_certs] == [authority.certificate]


@pytest.mark.parametrize("said", ["short\n", "", "umlaut-\u00e4\u00e4\n"])
def test_a_password_that_java_does_not_take_is_refused(tmp_path: Path, authority: Authority, said: str) -> None:
    """A usage error, and no file."""
    assert authority
    result = run("p12", "--state-dir", tmp_path, "--output", tmp_path / "egress.p12", "--password-stdin", said=said)
    assert result.exit_code == 2
    assert not (tmp_path / "egress.p12").exists()


def test_a_dry_run_says_the_steps_and_does_none(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file and each command, in order."""
    monkeypatch.setattr(installing.shutil, "which", lambda name: name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    result = run("install", "--nss", "--java", "--dry-run", "--state-dir", tmp_path)
    assert result.exit_code == 0
    name = f"egress-{authority.certificate.fingerprint(SHA256()).hex()[:16]}"
    folder = tmp_path / "home" / ".pki" / "nssdb"
    assert result.stdout.splitlines() == [
        f"would run mkdir -p {folder}",
        f"would run certutil -d sql:{folder} -N --empty-password",
        f"would run certutil -d sql:{folder} -A -t C,, -n {name}",
        f"would run keytool -delete -cacerts -storepass changeit -noprompt -alias {name}",
        f"would run keytool -importcert -cacerts -storepass changeit -noprompt -alias {name}",
    ]
    assert not folder.exists()


def test_the_system_is_where_it_goes_by_default(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where that cannot be, nothing is done, and it says what to do instead."""
    assert authority
    monkeypatch.setattr(installing.shutil, "which", lambda _: None)
    result = run("install", "--state-dir", tmp_path)
    assert isinstance(result.exception, StateError)
    assert result.exception.hint
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["bundle"], ["p12", "--output", "x.p12"], ["install"], ["rotate"]])
def test_a_missing_ca_is_an_error_and_stays_missing(tmp_path: Path, command: list[str]) -> None:
    """A CA in a folder that the proxy does not use would be trusted by clients and signed by nobody."""
    result = run(*command, "--state-dir", tmp_path / "state")
    assert isinstance(result.exception, StateError)
    assert "egress ca init" in result.exception.hint
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["ca-key.pem", "."])
@pytest.mark.parametrize(
    "command", [["path"], ["print"], ["init"], ["bundle"], ["p12", "--output", "x.p12"], ["install"], ["rotate"]]
)
def test_every_command_refuses_a_ca_that_others_can_reach(
    tmp_path: Path, authority: Authority, command: list[str], name: str
) -> None:
    """As the start of the proxy does: whoever read the key can be every site to the clients that trust it."""
    assert authority
    (tmp_path / "ca" / name).chmod(0o666 if name != "." else 0o777)
    result = run(*command, "--state-dir", tmp_path)
    assert isinstance(result.exception, StateError)
    assert "open to other users" in result.exception.message
    assert "chmod" in result.exception.hint


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("init", "egress ca init --name-constraint corp.example --name-constraint api.example.com"),
        ("bundle", "egress ca bundle --output /srv/sandbox/ca-bundle.pem"),
        ("p12", "keytool -list -keystore egress.p12 -storepass changeit"),
        ("install", "egress ca install --dry-run"),
        ("rotate", "egress ca rotate --prepare          # clients learn to trust it first"),
    ],
)
def test_help_shows_each_example_on_a_line(command: str, example: str) -> None:
    """An example that is wrapped into the next cannot be copied."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert example in [line.strip() for line in result.stdout.splitlines()]

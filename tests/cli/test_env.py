"""`egress env`: lines that a shell can evaluate and a client then works with."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from egress.certs import Authority
from egress.cli import env
from egress.confine.environment import VARIABLES
from egress.credentials import identity_token
from egress.errors import ConfigError, StateError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: str | Path) -> Result:
    """Run `egress env` with these arguments."""
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    env.register(app)
    return CliRunner().invoke(app, ["env", *map(str, arguments)])


def variables(*arguments: str | Path) -> dict[str, str]:
    """The variables that it prints, read back from a real shell that evaluated them."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    script = result.stdout + '\npython3 -c "import json, os; print(json.dumps(dict(os.environ)))"'
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with a CA, under a name that a careless shell would take apart."""
    folder = tmp_path / "my $(state) it's"
    Authority.load_or_create(folder / "ca")
    return folder


def test_a_shell_gets_proxy_and_trust(state: Path) -> None:
    """What is evaluated names the proxy, an existing bundle with our CA in it, and the CA."""
    found = variables("--state-dir", state)
    assert set(VARIABLES) <= set(found)
    assert found["https_proxy"] == "http://127.0.0.1:3128"
    assert found["NODE_EXTRA_CA_CERTS"] == str(state / "ca" / "ca.pem")
    assert found["SSL_CERT_FILE"] == str(state / "ca-bundle.pem")
    own = (state / "ca" / "ca.pem").read_text()
    bundle = (state / "ca-bundle.pem").read_text()
    assert own in bundle
    assert bundle.count("BEGIN CERTIFICATE") > 50


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("10.0.0.5:3128", "http://10.0.0.5:3128"),
    ],
)
def test_the_proxy_is_named_as_a_client_reaches_it(state: Path, listen: str, url: str) -> None:
    """A listener on all addresses is reached on the loopback one; IPv6 has its brackets."""
    assert variables("--state-dir", state, "--listen", listen)["HTTP_PROXY"] == url


def test_a_port_that_the_proxy_picks_must_be_named(state: Path) -> None:
    """Port 0 is where to listen, not where to connect: a usage error."""
    result = run("--state-dir", state, "--listen", "127.0.0.1:0")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_bad_listen_is_an_error(state: Path) -> None:
    """It says what to write; nothing is printed that a shell could evaluate."""
    result = run("--state-dir", state, "--listen", "nonsense; rm -rf /")
    assert isinstance(result.exception, ConfigError)
    assert result.stdout == ""


def test_without_a_ca_there_is_nothing_to_trust(tmp_path: Path) -> None:
    """An error with a hint, no CA made, nothing printed."""
    result = run("--state-dir", tmp_path / "state")
    assert isinstance(result.exception, StateError)
    assert result.stdout == ""
    assert not (tmp_path / "state").exists()


def test_the_bundle_goes_where_it_is_told_with_the_roots_it_is_told(state: Path, tmp_path: Path) -> None:
    """For clients of another user, and for tunnels to servers with a private CA."""
    other = Authority.load_or_create(tmp_path / "other")
    target = tmp_path / "shared" / "bundle.pem"
    found = variables("--state-dir", state, "--bundle", target, "--upstream-ca", other.certificate_path)
    assert found["CURL_CA_BUNDLE"] == str(target)
    assert other.certificate_pem.decode() in target.read_text()
    assert target.stat().st_mode & 0o7777 == 0o644


def test_hosts_to_reach_directly_are_those_named(state: Path) -> None:
    """None by default."""
    assert variables("--state-dir", state)["NO_PROXY"] == ""
    found = variables("--state-dir", state, "--no-proxy", "localhost", "--no-proxy", "127.0.0.1")
    assert found["NO_PROXY"] == "localhost,127.0.0.1"


def test_unset_needs_no_ca_and_undoes_it(state: Path, tmp_path: Path) -> None:
    """`eval "$(egress env --unset)"` gives the shell back as it was."""
    undo = run("--unset", "--state-dir", tmp_path / "missing")
    assert undo.exit_code == 0
    script = run("--state-dir", state).stdout + undo.stdout + "env"
    done = subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
    left = {line.split(b"=")[0].decode() for line in done.stdout.splitlines()}
    assert not left & set(VARIABLES)


def test_json_is_for_programs(state: Path) -> None:
    """One object, the same variables as the shell gets."""
    result = run("--state-dir", state, "--shell", "json")
    assert set(json.loads(result.stdout)) == set(VARIABLES)


PLACEHOLDERS = """
version: 1
secrets:
  model:
    env: ANTHROPIC_API_KEY
    hosts: [api.anthropic.com]
    placeholder: {env: ANTHROPIC_API_KEY}
  other: {env: OTHER, hosts: [api.example.com], placeholder: {env: OTHER_KEY, value: other-egress-0123456789}}
  bare: {env: BARE, hosts: [api.example.com], placeholder: {like: ghp}}
rules:
  - {allow: api.anthropic.com, swap: {secret: model, headers: [x-api-key]}}
"""


def test_placeholders_stand_under_their_variables(state: Path, tmp_path: Path) -> None:
    """The same each time, like the credential that it stands for; a line on stderr says what they are."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(PLACEHOLDERS)
    result = run("--state-dir", state, "--policy", policy, "--shell", "json")
    found = json.loads(result.stdout)
    assert found["ANTHROPIC_API_KEY"].startswith("sk-ant-api03-egress")
    assert found["OTHER_KEY"] == "other-egress-0123456789"
    assert set(found) == {*VARIABLES, "ANTHROPIC_API_KEY", "OTHER_KEY"}
    assert "placeholders, worth nothing beyond the proxy, are in ANTHROPIC_API_KEY, OTHER_KEY" in result.stderr
    assert variables("--state-dir", state, "--policy", policy)["ANTHROPIC_API_KEY"] == found["ANTHROPIC_API_KEY"]
    assert (state / "placeholder.key").stat().st_mode & 0o777 == 0o600
    undo = run("--unset", "--state-dir", tmp_path / "missing", "--policy", policy)
    assert "unset OTHER_KEY\n" in undo.stdout
    assert not (tmp_path / "missing").exists()


def test_dotenv_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    """A folder with a line break in its name is a usage error, not a file that reads as two variables."""
    Authority.load_or_create(tmp_path / "a\nb" / "ca")
    result = run("--state-dir", tmp_path / "a\nb", "--shell", "dotenv")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_help_shows_each_example_on_a_line(state: Path) -> None:
    """An example that is wrapped into the next cannot be copied; each of them is a command that exists."""
    lines = [line.strip() for line in run("--help").stdout.splitlines()]
    assert 'eval "$(egress env)"' in lines
    assert "egress env --shell fish | source" in lines
    assert run("--shell", "fish", "--state-dir", state).stdout.startswith("set -gx HTTP_PROXY ")


def test_a_unix_socket_is_no_proxy_for_a_variable(state: Path, tmp_path: Path) -> None:
    """It says so, and which bridge serves it; an address that is served besides is taken."""
    config = tmp_path / "egress.yaml"
    config.write_text("listen: unix:/run/egress/proxy.sock\n")
    result = run("--state-dir", state, "--config", config)
    assert result.exit_code == 2
    told = " ".join(result.output.replace("│", " ").split())
    assert "the proxy listens on a unix socket alone, which no variable can name for curl" in told
    assert "socat TCP-LISTEN:3128,bind=127.0.0.1,fork,reuseaddr UNIX-CONNECT:/run/egress/proxy.sock" in told
    config.write_text('listen: ["unix:/run/egress/proxy.sock", 127.0.0.1:8080]\n')
    assert variables("--state-dir", state, "--config", config)["https_proxy"] == "http://127.0.0.1:8080"


IDENTITY = """
policy: [policy.yaml]
identity:
  listen: 127.0.0.1:9911
  azure: {https://management.azure.com: arm}
  aws: {secret: keys}
  google: {secret: cloud, email: agent@one.example}
secrets:
  arm: {env: ARM, hosts: [management.azure.com], placeholder: {like: jwt}}
  keys: {env: KEYS, hosts: [one.s3.amazonaws.com], placeholder: {like: plain}}
  cloud: {env: CLOUD, hosts: [storage.googleapis.com], placeholder: {like: plain}}
"""


def test_the_identity_endpoints_are_exported(state: Path, tmp_path: Path) -> None:
    """Where each SDK looks, with what it shows there: the same each time, another in another state folder."""
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "egress.yaml").write_text(IDENTITY)
    found = variables("--state-dir", state, "--config", tmp_path / "egress.yaml")
    assert found["IDENTITY_ENDPOINT"] == "http://127.0.0.1:9911/msi/token"
    assert found["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:9911/aws/credentials"
    assert found["GCE_METADATA_HOST"] == found["GCE_METADATA_IP"] == "127.0.0.1:9911"
    token = found["IDENTITY_HEADER"]
    assert (len(token), token) == (64, identity_token(state))
    assert found["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == token
    again = variables("--state-dir", state, "--config", tmp_path / "egress.yaml")
    assert again["IDENTITY_HEADER"] == token
    other = tmp_path / "other"
    Authority.load_or_create(other / "ca")
    assert variables("--state-dir", other, "--config", tmp_path / "egress.yaml")["IDENTITY_HEADER"] != token


def test_only_what_is_configured_is_exported_and_all_of_it_removed(state: Path, tmp_path: Path) -> None:
    """An SDK that finds a variable asks there, and nowhere else."""
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "egress.yaml").write_text(re.sub(r"  (azure|google): .*\n", "", IDENTITY))
    found = variables("--state-dir", state, "--config", tmp_path / "egress.yaml")
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN" in found
    assert not {"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "GCE_METADATA_HOST"} & set(found)
    undo = run("--unset", "--config", tmp_path / "egress.yaml").stdout
    for name in ("IDENTITY_HEADER", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "GCE_METADATA_IP"):
        assert f"unset {name}\n" in undo


def test_a_free_port_of_the_endpoints_cannot_be_exported(state: Path, tmp_path: Path) -> None:
    """Only the proxy knows which it is."""
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "egress.yaml").write_text(IDENTITY.replace("9911", "0"))
    result = run("--state-dir", state, "--config", tmp_path / "egress.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""

"""`egress env`: lines that a shell can evaluate and a client then works with."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from egress.certs import Authority
from egress.cli import env
from egress.confine.environment import VARIABLES
from egress.credentials import identity_token
from egress.errors import ConfigError, StateError

if TYPE_CHECKING:
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
    assert run("--state-dir", state, "--json").stdout == result.stdout


def test_one_format_at_a_time(state: Path) -> None:
    """The short flags are spellings of `--shell`."""
    assert run("--state-dir", state, "--dotenv").stdout == run("--state-dir", state, "--shell", "dotenv").stdout
    for flags in (["--json", "--dotenv"], ["--shell", "fish", "--json"]):
        assert run("--state-dir", state, *flags).exit_code == 2


def test_what_the_variables_name_is_there(state: Path) -> None:
    """Files for Java, apt, wget and PHP, which name the bundle and the proxy; the store holds what the bundle holds."""
    found = variables("--state-dir", state, "--no-proxy", "localhost")
    clients = state / "clients"
    assert found["APT_CONFIG"] == str(clients / "apt.conf")
    assert (clients / "apt.conf").read_text().splitlines() == [
        'Acquire::http::Proxy "http://127.0.0.1:3128";',
        'Acquire::https::Proxy "http://127.0.0.1:3128";',
        'Acquire::http::Proxy::localhost "DIRECT";',
        'Acquire::https::Proxy::localhost "DIRECT";',
        f'Acquire::https::CaInfo "{state / "ca-bundle.pem"}";',
    ]
    assert f"ca_certificate = {state / 'ca-bundle.pem'}" in (clients / "wgetrc").read_text()
    assert "no_proxy = localhost\n" in (clients / "wgetrc").read_text()
    assert f'curl.cainfo = "{state / "ca-bundle.pem"}"' in (clients / "egress.ini").read_text()
    assert found["PHP_INI_SCAN_DIR"] == f":{clients}"
    assert f"{clients}/java-trust.p12" in shlex.join(shlex.split(found["JAVA_TOOL_OPTIONS"])).replace("'\"'\"'", "'")
    assert (clients / "java-trust.p12").stat().st_size > 50_000
    assert not any(b"PRIVATE" in path.read_bytes() for path in clients.iterdir())


def test_java_can_be_left_out(state: Path) -> None:
    """With its store, which takes longest to write."""
    found = variables("--state-dir", state, "--without-java")
    assert "JAVA_TOOL_OPTIONS" not in found
    assert not (state / "clients" / "java-trust.p12").exists()


def test_a_folder_for_another_user_holds_everything(state: Path, tmp_path: Path) -> None:
    """Nothing names the state folder, which is closed to them; all of it can be read, and none of it is secret."""
    target = tmp_path / "shared"
    before = os.umask(0o077)
    try:
        found = variables("--state-dir", state, "--files", target)
    finally:
        os.umask(before)
    assert not [name for name, value in found.items() if str(state) in value]
    assert sorted(path.name for path in target.iterdir()) == [
        "apt.conf",
        "ca-bundle.pem",
        "ca.pem",
        "egress.ini",
        "java-trust.p12",
        "wgetrc",
    ]
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o644}
    assert target.stat().st_mode & 0o777 == 0o755
    assert (target / "ca.pem").read_bytes() == (state / "ca" / "ca.pem").read_bytes()


def test_a_folder_that_no_file_can_name_goes_without(tmp_path: Path) -> None:
    """The rest works and it is said; a folder that was asked for is an error."""
    odd = tmp_path / "a#b"
    Authority.load_or_create(odd / "ca")
    result = run("--state-dir", odd)
    assert result.exit_code == 0
    assert "APT_CONFIG" not in result.stdout
    assert "no variables for Java, apt, wget and PHP" in result.stderr
    assert isinstance(run("--state-dir", odd, "--files", tmp_path / "b#c").exception, StateError)


def test_socks_is_for_who_speaks_it(state: Path) -> None:
    """The name goes to the proxy unresolved."""
    found = variables("--state-dir", state, "--socks")
    assert found["ALL_PROXY"] == found["https_proxy"] == "socks5h://127.0.0.1:3128"
    assert found["grpc_proxy"] == "http://127.0.0.1:3128"


def test_who_is_redirected_gets_trust_and_no_proxy(state: Path) -> None:
    """Also where the proxy listens on nothing that a variable could name; the files are there."""
    found = variables("--state-dir", state, "--redirected", "--listen", "127.0.0.1:0")
    assert Path(found["SSL_CERT_FILE"]).is_file()
    assert Path(found["WGETRC"]).read_text().startswith("use_proxy = off\n")
    assert not [name for name in found if "proxy" in name.lower()]
    assert "proxyHost" not in found["JAVA_TOOL_OPTIONS"]
    docker = run("--state-dir", state, "--redirected", "--docker")
    assert (docker.exit_code, docker.stderr) == (0, "")
    assert "PROXY" not in docker.stdout


@pytest.mark.parametrize("other", [("--proxy", "proxy:1"), ("--socks",), ("--no-proxy", "a.test")])
def test_who_is_redirected_is_told_of_no_proxy(state: Path, other: tuple[str, ...]) -> None:
    """Both at once is a mistake, and says which."""
    result = run("--state-dir", state, "--redirected", *other)
    assert result.exit_code == 2
    assert other[0] in result.stderr


@pytest.mark.parametrize(
    ("named", "url"),
    [("egress:3128", "http://egress:3128"), ("10.0.0.1:80", "http://10.0.0.1:80"), ("[::1]:1", "http://[::1]:1")],
)
def test_clients_elsewhere_are_told_where_the_proxy_is(state: Path, named: str, url: str) -> None:
    """By a name of their network, where it listens on another address."""
    assert variables("--state-dir", state, "--proxy", named)["https_proxy"] == url


@pytest.mark.parametrize("named", ["egress", "egress:", "http://egress:3128", "a b:1", ":3128", "x:99999"])
def test_a_proxy_is_a_host_and_a_port(state: Path, named: str) -> None:
    """A usage error, and nothing printed."""
    result = run("--state-dir", state, "--proxy", named)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_docker_gets_variables_and_their_files(state: Path) -> None:
    """Options for `docker run`, as `eval` splits them; what the container sees is where the variables say."""
    result = run("--state-dir", state, "--docker", "--proxy", "egress:3128")
    assert (result.exit_code, result.stderr) == (0, "")
    words = shlex.split(result.stdout)
    assert words[0] == "--mount"
    assert f"source={state / 'container'}" in words[1]
    found = dict(word.split("=", 1) for word in words[3::2])
    assert set(words[2::2]) == {"--env"}
    assert set(found) == set(VARIABLES)
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "APT_CONFIG", "WGETRC"):
        path = Path(found[name])
        assert path.parent == Path("/etc/egress")
        assert (state / "container" / path.name).stat().st_mode & 0o777 == 0o644
    assert "/etc/egress/ca-bundle.pem" in (state / "container" / "wgetrc").read_text()
    assert not [value for value in found.values() if str(state) in value]


def test_k8s_gets_config_maps_and_writes_nothing(state: Path) -> None:
    """One of variables, one of files, within what a ConfigMap may hold; no key is in them."""
    before = sorted(state.rglob("*"))
    result = run("--state-dir", state, "--k8s", "--proxy", "egress.proxy.svc:3128", "--at", "/trust")
    assert result.exit_code == 0
    variables_map, files = YAML(typ="safe", pure=True).load_all(result.stdout)
    assert set(variables_map["data"]) == set(VARIABLES)
    assert variables_map["data"]["SSL_CERT_FILE"] == "/trust/ca-bundle.pem"
    assert files["data"]["ca.pem"] == (state / "ca" / "ca.pem").read_text()
    assert set(files["binaryData"]) == {"java-trust.p12"}
    assert len(result.stdout) < 1024 * 1024
    assert "PRIVATE" not in result.stdout
    assert "mountPath: /trust" in result.stdout
    listed = run("--state-dir", state, "--shell", "k8s-env", "--proxy", "egress.proxy.svc:3128").stdout
    (read,) = YAML(typ="safe", pure=True).load_all(listed)
    assert {own["name"] for own in read["env"]} == set(VARIABLES)
    assert sorted(state.rglob("*")) == before


@pytest.mark.parametrize("flag", ["--docker", "--k8s"])
def test_a_loopback_address_in_a_container_is_pointed_out(state: Path, flag: str) -> None:
    """It is the container's own there."""
    assert "say where it reaches the proxy, with --proxy" in run("--state-dir", state, flag).stderr
    assert run("--state-dir", state, flag, "--unset").exit_code == 2


def test_during_a_rotation_both_are_trusted(state: Path) -> None:
    """By the bundle and by Java's store; who adds to their own roots get the one that signs."""
    authority = Authority.load(state / "ca")
    old = authority.certificate_pem.decode()
    authority.rotate(keep=timedelta(days=1))
    variables("--state-dir", state)
    bundle = (state / "ca-bundle.pem").read_text()
    assert old in bundle
    assert authority.certificate_pem.decode() in bundle


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

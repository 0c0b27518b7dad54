"""Sources of secrets as files write them: each is its value, paths are those of the file's folder, no value is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.config import PolicySource, load_policy
from egress.config.plain_sources import FETCHED, leaves_of
from egress.config.secret_sources import (
    AwsSource,
    AzureIdentity,
    AzureSource,
    CommandSource,
    EnvSource,
    FileSource,
    GithubAppSource,
    GoogleSource,
    KeyringSource,
    OAuth2Source,
    StoreSource,
    VaultAppRole,
    VaultKubernetes,
    VaultSource,
    VaultToken,
)
from egress.errors import ConfigError
from egress.policy import Scope

if TYPE_CHECKING:
    from egress.config import LoadedPolicy
    from egress.config.secret_sources import SecretSource

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "credentials.md"
VAULT = "vault: {address: 'https://v.test/', path: app, auth: "
OAUTH2 = "oauth2: {token_url: 'https://t.test/token', client_id: me, "


def load(folder: Path, text: str, scope: Scope = Scope.SANDBOX, *others: PolicySource) -> LoadedPolicy:
    """The policy of that text."""
    (folder / "policy.yaml").write_text(text)
    return load_policy([PolicySource(scope, folder / "policy.yaml"), *others])


def test_the_guides_sources_load(tmp_path: Path) -> None:
    """The example has one of every kind."""
    examples = re.findall(r"```yaml\n(version: 1\n.*?)```", GUIDE.read_text(), re.DOTALL)
    loaded = load(tmp_path, examples[0])
    assert {type(secret.source) for secret in loaded.secrets.values()} == set(FETCHED)


@pytest.mark.parametrize("word", FETCHED.values())
def test_the_guide_has_every_source(word: str) -> None:
    """In its table, and in its example."""
    text = GUIDE.read_text()
    assert f"| `{word}: " in text
    assert re.search(rf"^ .*\b{word}:", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("store: kept", StoreSource("kept")),
        ("command: [op, read, x]", CommandSource(("op", "read", "x"))),
        ("command: [op], timeout: 3s, keep: 2h", CommandSource(("op",), 3.0, 7200.0)),
        ("keyring: {service: a, user: b}", KeyringSource("a", "b")),
        (VAULT + "{token: {env: T}}}", VaultSource("https://v.test", "app", VaultToken(EnvSource("T")))),
        (
            VAULT + "{approle: {role_id: r, secret_id: {store: s}, mount: m}}, mount: kv, field: f, namespace: n}",
            VaultSource("https://v.test", "app", VaultAppRole("r", StoreSource("s"), "m"), "kv", "f", "n"),
        ),
        (VAULT + "{kubernetes: {role: r}}}", VaultSource("https://v.test", "app", VaultKubernetes("r"))),
        ("azure: {resource: 'https://r.test'}", AzureSource(AzureIdentity(), resource="https://r.test")),
        (
            "azure: {vault: 'https://k.test', secret: s, version: v, identity: {kind: workload, client_id: c}}",
            AzureSource(AzureIdentity("workload", "c"), vault="https://k.test", secret="s", version="v"),
        ),
        (OAUTH2 + "client_secret: {env: S}}", OAuth2Source("https://t.test/token", "me", EnvSource("S"))),
        (
            OAUTH2 + "refresh_token: {store: r}, scopes: [b, a], body_auth: true, extra: {z: 1z, a: x}}",
            OAuth2Source(
                "https://t.test/token",
                "me",
                None,
                StoreSource("r"),
                ("b", "a"),
                body_auth=True,
                extra=(("a", "x"), ("z", "1z")),
            ),
        ),
        (
            "github_app: {app_id: 1, installation_id: '2', private_key: {env: K}, permissions: {contents: read}}",
            GithubAppSource("1", "2", EnvSource("K"), permissions=(("contents", "read"),)),
        ),
        ("google: {}", GoogleSource()),
        ("google: {scopes: s, key: {env: K}}", GoogleSource(("s",), EnvSource("K"))),
        (
            "aws: {access_key_id: A, secret_access_key: {env: K}, duration: 15min, endpoint: 'http://127.0.0.1:80'}",
            AwsSource("A", EnvSource("K"), duration_seconds=900, endpoint="http://127.0.0.1:80"),
        ),
    ],
)
def test_what_is_written_is_the_source(written: str, source: SecretSource, tmp_path: Path) -> None:
    """With the defaults of the source for what is left out."""
    loaded = load(tmp_path, f"version: 1\nsecrets: {{x: {{{written}, hosts: [a.test]}}}}\n")
    assert loaded.secrets["x"].source == source


def test_paths_are_of_the_files_folder(tmp_path: Path) -> None:
    """Of files, inside and outside of leaves, and of programs that are named by a path; other arguments stay."""
    loaded = load(
        tmp_path,
        f"""
version: 1
secrets:
  leaf: {{{OAUTH2} client_secret: {{file: a/key}}}}, hosts: [a.test]}}
  plain: {{google: {{config: b.json}}, hosts: [a.test]}}
  program: {{command: [./fetch, ./x], hosts: [a.test]}}
  found: {{command: [fetch], hosts: [a.test]}}
""",
    )
    sources = {name: secret.source for name, secret in loaded.secrets.items()}
    assert sources["plain"] == GoogleSource(config=tmp_path / "b.json")
    assert sources["program"] == CommandSource((f"{tmp_path}/fetch", "./x"))
    assert sources["found"] == CommandSource(("fetch",))
    assert isinstance(sources["leaf"], OAuth2Source)
    assert leaves_of(sources["leaf"]) == (FileSource(tmp_path / "a/key"),)


def test_a_secret_of_the_store_needs_no_hosts_and_may_narrow_them(tmp_path: Path) -> None:
    """Where it is bound to is known where it is kept: a rule that names it loads, whatever its host."""
    text = """
version: 1
secrets: {kept: {store: kept}, narrow: {store: kept, hosts: [a.test]}}
rules:
  - {allow: b.test, inject: {X-A: "${kept}"}}
"""
    loaded = load(tmp_path, text)
    assert loaded.secrets["kept"].hosts == ()
    assert len(loaded.secrets["narrow"].hosts) == 1
    with pytest.raises(ConfigError, match="bound to none of this rule's hosts"):
        load(tmp_path, text.replace("${kept}", "${narrow}"))


@pytest.mark.parametrize("scope", [Scope.TEAM, Scope.SANDBOX])
def test_a_file_beside_others_cannot_have_a_program_run(scope: Scope, tmp_path: Path) -> None:
    """INVARIANT scopes-only-narrow: it may name secrets; a definition of its own is refused."""
    (tmp_path / "org.yaml").write_text("version: 1\ndefault: deny\n")
    text = "version: 1\nsecrets: {x: {command: [touch, /tmp/x], hosts: [a.test]}}\n"
    with pytest.raises(ConfigError, match="may name secrets, not define them"):
        load(tmp_path, text, scope, PolicySource(Scope.ORG, tmp_path / "org.yaml"))


@pytest.mark.parametrize(
    "url",
    [
        "http://v.test",
        "http://localhost",
        "http://10.0.0.1",
        "http://169.254.169.254.nip.test",
        "ftp://v.test",
        "https://",
        "https://u:canary@v.test",
        "https://v.test/?canary=1",
        "https://v.test/#canary",
        "https://v.test:0",
        "https://v.test:99999",
        "https://v .test",
        "//v.test",
        "canary",
    ],
)
def test_a_url_is_of_https_or_of_the_host_itself(url: str, tmp_path: Path) -> None:
    """And holds nothing that could be a value; what is wrong is not repeated."""
    written = VAULT.replace("https://v.test/", url) + "{token: {env: T}}}"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"version: 1\nsecrets: {{x: {{{written}, hosts: [a.test]}}}}\n")
    assert "secrets.x.vault.address: " in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8200", "http://[::1]:8200", "http://169.254.169.254", "https://v.test:8200/a"]
)
def test_a_service_of_the_host_itself_may_be_asked_over_http(url: str, tmp_path: Path) -> None:
    """At loopback and link-local addresses."""
    written = VAULT.replace("https://v.test/", url) + "{token: {env: T}}}"
    loaded = load(tmp_path, f"version: 1\nsecrets: {{x: {{{written}, hosts: [a.test]}}}}\n")
    source = loaded.secrets["x"].source
    assert isinstance(source, VaultSource)
    assert source.address == url

"""Where the values of secrets come from, as configuration says it. Plain values; none holds a value of a secret.

A leaf is a source that needs no other secret; what signs in to a service is itself a leaf.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EnvSource:
    """The value is in an environment variable of the proxy."""

    variable: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """The value is a file's content, without one final newline."""

    path: Path


@dataclass(frozen=True, slots=True)
class StoreSource:
    """The value is in our own encrypted store, under this name; the store's binding holds as well."""

    name: str


type LeafSource = EnvSource | FileSource | StoreSource


@dataclass(frozen=True, slots=True)
class CommandSource:
    """The value is what a program prints, without one final newline. No shell; `seconds` it may take.

    `keep_seconds`: how long the value is used before the program is asked again.
    """

    argv: tuple[str, ...]
    seconds: float = 10.0
    keep_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class KeyringSource:
    """The value is in the operating system's keyring."""

    service: str
    user: str


@dataclass(frozen=True, slots=True)
class VaultToken:
    """Sign in to Vault with a token."""

    token: LeafSource


@dataclass(frozen=True, slots=True)
class VaultAppRole:
    """Sign in to Vault as an AppRole."""

    role_id: str
    secret_id: LeafSource
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class VaultKubernetes:
    """Sign in to Vault with the pod's service account token."""

    role: str
    token: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    mount: str = "kubernetes"


@dataclass(frozen=True, slots=True)
class VaultSource:
    """A field of a secret in HashiCorp Vault's KV version 2."""

    address: str
    path: str
    auth: VaultToken | VaultAppRole | VaultKubernetes
    mount: str = "secret"
    field: str = "value"
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class AzureIdentity:
    """Who the proxy is to Azure: a managed identity, or a workload identity with a federated token in a file.

    What is left out is in the variables by which Azure tells a program who it is: leaves, no words of configuration.
    Without an authority, that of the public cloud is asked.
    """

    kind: str = "managed"  # managed | workload
    client_id: str | None = None
    tenant_id: str | None = None
    token_file: Path | None = None
    authority: str | None = None
    endpoint_variable: EnvSource = EnvSource("IDENTITY_ENDPOINT")
    header_variable: EnvSource = EnvSource("IDENTITY_HEADER")
    client_variable: EnvSource = EnvSource("AZURE_CLIENT_ID")
    tenant_variable: EnvSource = EnvSource("AZURE_TENANT_ID")
    token_file_variable: EnvSource = EnvSource("AZURE_FEDERATED_TOKEN_FILE")
    authority_variable: EnvSource = EnvSource("AZURE_AUTHORITY_HOST")


@dataclass(frozen=True, slots=True)
class AzureSource:
    """A token for `resource`, or the secret `secret` (with `version`, if one is named) of the Key Vault at `vault`."""

    identity: AzureIdentity
    resource: str | None = None
    vault: str | None = None
    secret: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class OAuth2Source:
    """An access token by the grant `client_credentials`, or `refresh_token` where `refresh_token` is given.

    `body_auth`: the client signs in by form fields in place of Basic. `extra`: more form fields, such as `audience`.
    """

    token_url: str
    client_id: str
    client_secret: LeafSource | None = None
    refresh_token: LeafSource | None = None
    scopes: tuple[str, ...] = ()
    body_auth: bool = False
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GithubAppSource:
    """An installation token of a GitHub App, for these repositories and permissions only, if they are given."""

    app_id: str
    installation_id: str
    private_key: LeafSource
    repositories: tuple[str, ...] = ()
    permissions: tuple[tuple[str, str], ...] = ()
    api: str = "https://api.github.com"


@dataclass(frozen=True, slots=True)
class GoogleSource:
    """An access token for a service account (`key`: its JSON), or by the workload identity that `config` describes.

    Neither: that of the metadata service.
    """

    scopes: tuple[str, ...] = ("https://www.googleapis.com/auth/cloud-platform",)
    key: LeafSource | None = None
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class AwsSource:
    """Keys for signing: those given, or those of the role that they may assume.

    The value is the JSON text that AWS's `credential_process` prints.
    """

    access_key_id: str
    secret_access_key: LeafSource
    session_token: LeafSource | None = None
    role_arn: str | None = None
    session_name: str = "egress"
    external_id: str | None = None
    region: str = "us-east-1"
    duration_seconds: int = 3600
    session_policy: str | None = None
    endpoint: str | None = None


type FetchedSource = (
    StoreSource
    | CommandSource
    | KeyringSource
    | VaultSource
    | AzureSource
    | OAuth2Source
    | GithubAppSource
    | GoogleSource
    | AwsSource
)
type SecretSource = EnvSource | FileSource | FetchedSource

"""The shapes of secrets' sources, as configuration writes them: each becomes one of `secret_sources`.

A model's keys are the fields of its source; what is left out is as the source has it.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from egress.config.secret_sources import (
    AwsSource,
    AzureIdentity,
    AzureSource,
    GithubAppSource,
    GoogleSource,
    KeyringSource,
    OAuth2Source,
)
from egress.config.source_fields import (  # noqa: TC001  pydantic reads them at run time
    AccessWord,
    IdField,
    LeafField,
    PlainField,
    PlainList,
    RoleTimeField,
    SourcePathField,
    UrlField,
)
from egress.config.source_model import SourceModel
from egress.config.wording import quoted

# What the grant itself sends: a value of one of these must not stand in a file.
_FORM: Final = frozenset(
    {
        "assertion",
        "client_assertion",
        "client_id",
        "client_secret",
        "grant_type",
        "password",
        "refresh_token",
        "scope",
    }
)


class KeyringModel(SourceModel):
    """An entry of the operating system's keyring."""

    service: PlainField = Field(description="The service of the entry.")
    user: PlainField = Field(description="The user of the entry.")

    def source(self) -> KeyringSource:
        """The source."""
        return KeyringSource(self.service, self.user)


class AzureIdentityModel(SourceModel):
    """Who the proxy is to Azure."""

    kind: Literal["managed", "workload"] | None = None
    client_id: PlainField | None = None
    tenant_id: PlainField | None = None
    token_file: SourcePathField | None = None
    authority: UrlField | None = None


class AzureModel(SourceModel):
    """A token for a resource, or a secret of a Key Vault."""

    identity: AzureIdentityModel | None = None
    resource: PlainField | None = Field(None, description="What the token is for, as in `https://storage.azure.com`.")
    vault: UrlField | None = Field(None, description="The Key Vault's URL.")
    secret: PlainField | None = Field(None, description="The secret's name in it.")
    version: PlainField | None = None

    def problem(self) -> tuple[str, str, str] | None:
        """A token or a secret, not half of both."""
        if (self.resource is None) == (self.vault is None) or (self.vault is None) != (self.secret is None):
            return "", "this is neither a token nor a secret", "write `resource`, or `vault` and `secret`"
        if self.version is not None and self.vault is None:
            return "version", "a token has no version", "remove it"
        return None

    def source(self) -> AzureSource:
        """The source."""
        identity = {} if self.identity is None else self.identity.stated()
        return AzureSource(**(self.stated() | {"identity": AzureIdentity(**identity)}))


class OAuth2Model(SourceModel):
    """An access token of OAuth 2.0."""

    token_url: UrlField
    client_id: PlainField
    client_secret: LeafField | None = None
    refresh_token: LeafField | None = Field(None, description="With it, the grant is `refresh_token`.")
    scopes: PlainList | None = None
    body_auth: bool | None = Field(None, description="`true`: the client signs in by form fields.")
    extra: dict[str, PlainField] | None = Field(None, description="More form fields, such as `audience`.")

    def problem(self) -> tuple[str, str, str] | None:
        """Something to sign in with."""
        if self.client_secret is None and self.refresh_token is None:
            return "", "there is nothing to sign in with", "write `client_secret`, or `refresh_token`, or both"
        own = sorted(_FORM & (self.extra or {}).keys())
        if own:
            hint = "remove it; what signs in is `client_secret` or `refresh_token`, and says where its value is"
            return "extra", f"{quoted(own[0])} is no field to add", hint
        return None

    def source(self) -> OAuth2Source:
        """The source."""
        return OAuth2Source(**self.stated())


class GithubAppModel(SourceModel):
    """An installation token of a GitHub App."""

    app_id: IdField
    installation_id: IdField
    private_key: LeafField
    repositories: PlainList | None = Field(None, description="The token is for these alone.")
    permissions: dict[str, AccessWord] | None = Field(None, description="As in `{contents: read}`.")
    api: UrlField | None = None

    def source(self) -> GithubAppSource:
        """The source."""
        return GithubAppSource(**self.stated())


class GoogleModel(SourceModel):
    """An access token of Google's; with neither `key` nor `config`, that of the metadata service."""

    scopes: PlainList | None = None
    key: LeafField | None = Field(None, description="The JSON of a service account's key.")
    config: SourcePathField | None = Field(None, description="The file that describes a workload identity.")

    def problem(self) -> tuple[str, str, str] | None:
        """One identity."""
        if self.key is not None and self.config is not None:
            return "", "this has both `key` and `config`", "keep one of them"
        return None

    def source(self) -> GoogleSource:
        """The source."""
        return GoogleSource(**self.stated())


class AwsModel(SourceModel):
    """Keys for signing, those given or those of a role."""

    access_key_id: PlainField
    secret_access_key: LeafField
    session_token: LeafField | None = None
    role_arn: PlainField | None = None
    session_name: PlainField | None = None
    external_id: PlainField | None = None
    region: PlainField | None = None
    duration: RoleTimeField | None = Field(None, description="How long a role is assumed.")
    session_policy: PlainField | None = None
    endpoint: UrlField | None = None

    def source(self) -> AwsSource:
        """The source."""
        stated = self.stated()
        if "duration" in stated:
            stated["duration_seconds"] = int(stated.pop("duration"))
        return AwsSource(**stated)

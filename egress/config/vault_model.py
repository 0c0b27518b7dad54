"""The shape of a secret's source in HashiCorp Vault, and of the ways to sign in to it."""

from __future__ import annotations

from pydantic import Field

from egress.config.secret_sources import VaultAppRole, VaultKubernetes, VaultSource, VaultToken
from egress.config.source_fields import (  # noqa: TC001  pydantic reads them at run time
    LeafField,
    PlainField,
    SourcePathField,
    UrlField,
)
from egress.config.source_model import SourceModel


class AppRoleModel(SourceModel):
    """Sign in to Vault as an AppRole."""

    role_id: PlainField
    secret_id: LeafField
    mount: PlainField | None = None


class VaultKubernetesModel(SourceModel):
    """Sign in to Vault with the pod's service account token."""

    role: PlainField
    token: SourcePathField | None = Field(None, description="The file of the token, where it is not the usual one.")
    mount: PlainField | None = None


class VaultAuthModel(SourceModel):
    """How to sign in to Vault: exactly one of these."""

    token: LeafField | None = None
    approle: AppRoleModel | None = None
    kubernetes: VaultKubernetesModel | None = None

    def problem(self) -> tuple[str, str, str] | None:
        """One way to sign in, and one only."""
        given = sorted(self.model_fields_set)
        if len(given) == 1:
            return None
        said = f"{' and '.join(f'`{key}`' for key in given)}" if given else "none"
        return "", f"there is one way to sign in, and this has {said}", "write `token`, `approle` or `kubernetes`"

    def auth(self) -> VaultToken | VaultAppRole | VaultKubernetes:
        """The way to sign in."""
        if self.approle is not None:
            return VaultAppRole(**self.approle.stated())
        if self.kubernetes is not None:
            return VaultKubernetes(**self.kubernetes.stated())
        if self.token is None:
            raise ValueError("no way to sign in")
        return VaultToken(self.token)


class VaultModel(SourceModel):
    """A field of a secret in HashiCorp Vault's KV version 2."""

    address: UrlField = Field(description="Vault's URL.")
    path: PlainField = Field(description="The secret's path, without the mount.")
    auth: VaultAuthModel
    mount: PlainField | None = Field(None, description="Where the engine is mounted; `secret` if left out.")
    field: PlainField | None = Field(None, description="The field of the secret; `value` if left out.")
    namespace: PlainField | None = None

    def problem(self) -> tuple[str, str, str] | None:
        """That of the way to sign in."""
        found = self.auth.problem()
        return None if found is None else ("auth", *found[1:])

    def source(self) -> VaultSource:
        """The source."""
        return VaultSource(**(self.stated() | {"auth": self.auth.auth()}))

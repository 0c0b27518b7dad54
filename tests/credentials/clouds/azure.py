"""Azure's token services (instance metadata, App Service, Microsoft Entra) and a Key Vault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credentials.clouds.server import Asked, Reply, Service
from credentials.clouds.tokens import refusal

if TYPE_CHECKING:
    from collections.abc import Callable


class _Tokens(Service):
    """Gives a token that names its resource, so that the next service can look at it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.change: dict[str, Any] = {}

    def token(self, resource: str, **fields: str) -> Reply:
        """The answer of the managed identity endpoints: numbers are texts."""
        expires = str(int(self.clock()) + 86_000)
        content = {
            "access_token": f"eyJ.{resource}",
            "expires_on": expires,
            "resource": resource,
            "token_type": "Bearer",
            **fields,
        }
        return Reply(200, content | self.change)


class Metadata(_Tokens):
    """The instance metadata service of a machine with these user-assigned identities, and one of its own."""

    clients = ("client-1",)

    def answer(self, asked: Asked) -> Reply:
        """As documented under "How to use managed identities on a VM"."""
        assert (asked.method, asked.path) == ("GET", "/metadata/identity/oauth2/token")
        query = asked.query
        if asked.headers.get("metadata") != "true":
            return refusal("bad_request_102")
        if "x-forwarded-for" in asked.headers or query["api-version"] != "2018-02-01":
            return refusal("invalid_request")
        if not query["resource"].startswith("https://"):
            return refusal("invalid_resource")
        if query.get("client_id", "client-1") not in self.clients:
            return refusal("invalid_request")
        return self.token(
            query["resource"], client_id="client-1", refresh_token="", expires_in="86399", ext_expires_in="86399"
        )


class AppService(_Tokens):
    """The endpoint that App Service, Functions and Container Apps put beside an app."""

    def answer(self, asked: Asked) -> Reply:
        """As documented under "How to use managed identities for App Service": REST endpoint reference."""
        assert (asked.method, asked.path) == ("GET", "/msi/token")
        if asked.headers.get("x-identity-header") != "header-secret":
            return Reply(403, {"statusCode": 403, "message": "CANARY"})
        assert asked.query["api-version"] == "2019-08-01"
        return self.token(asked.query["resource"], client_id=asked.query.get("client_id", "system"))


class Entra(Service):
    """The v2.0 token endpoint of a tenant in which an application trusts one federated token."""

    def __init__(self) -> None:
        super().__init__()
        self.assertion = "eyJ.federated.x"

    def answer(self, asked: Asked) -> Reply:
        """As documented under "client credentials flow", third case."""
        if (asked.method, asked.path) != ("POST", "/tenant-1/oauth2/v2.0/token"):
            return refusal("invalid_request")
        form = asked.form
        assert form["grant_type"] == "client_credentials"
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        if form["client_id"] != "client-1":
            return refusal("unauthorized_client")
        if form["client_assertion"] != self.assertion:
            return refusal("invalid_client", 401)
        if not form["scope"].endswith("/.default"):
            return refusal("invalid_scope")
        resource = form["scope"].removesuffix("/.default")
        content = {
            "token_type": "Bearer",
            "expires_in": 3599,
            "ext_expires_in": 3599,
            "access_token": f"eyJ.{resource}",
        }
        return Reply(200, content)


class KeyVault(Service):
    """A Key Vault whose tokens are for `resource`."""

    def __init__(self, resource: str = "https://vault.azure.net") -> None:
        super().__init__()
        self.resource = resource
        self.secrets: dict[str, dict[str, Any]] = {}

    def answer(self, asked: Asked) -> Reply:
        """As documented under "Get Secret", version 7.4."""
        assert asked.method == "GET"
        assert asked.query == {"api-version": "7.4"}
        if asked.headers.get("authorization") != f"Bearer eyJ.{self.resource}":
            return Reply(401, {"error": {"code": "Unauthorized", "message": "AKV10022: Invalid audience. CANARY"}})
        secret = self.secrets.get(asked.path.removeprefix("/secrets/"))
        if secret is None:
            return Reply(404, {"error": {"code": "SecretNotFound", "message": "CANARY"}})
        attributes = {"enabled": True, "created": 1493938410, "updated": 1493938410} | secret.get("attributes", {})
        return Reply(200, {"id": "https://myvault.vault.azure.net/secrets/api", **secret, "attributes": attributes})

"""HashiCorp Vault's HTTP API: tokens with leases, AppRole and Kubernetes logins, KV version 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from credentials.clouds.server import Asked, Reply, Service

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "/v1/"


@dataclass
class Token:
    """A token: until when, whether it can be renewed, and how often it was."""

    ends: float | None
    renewable: bool = True
    period: float = 3600
    renewals: int = 0


def errors(status: int, *messages: str) -> Reply:
    """An error as Vault writes one."""
    return Reply(status, {"errors": list(messages)})


@dataclass
class Secret:
    """The newest version of a secret in a KV engine."""

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


class Vault(Service):
    """One Vault. `clock` is whose time leases end by."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.tokens: dict[str, Token] = {}
        self.secrets: dict[str, Secret] = {}
        self.roles: dict[str, dict[str, str]] = {}
        self.lease: dict[str, Any] = {"lease_duration": 3600, "renewable": True}
        self.namespace: str | None = None
        self.logins = 0

    def answer(self, asked: Asked) -> Reply:
        """As the API's documentation has it."""
        assert asked.headers["x-vault-request"] == "true"
        assert asked.path.startswith(PREFIX)
        if asked.headers.get("x-vault-namespace") != self.namespace:
            return errors(404, "no handler for route CANARY")
        place = unquote(asked.path.removeprefix(PREFIX))
        if place.endswith("/login"):
            return self._login(asked, place)
        token = self.tokens.get(asked.headers.get("x-vault-token", ""))
        if token is None or (token.ends is not None and token.ends <= self.clock()):
            return errors(403, "permission denied", "CANARY")
        if place == "auth/token/lookup-self":
            ttl = 0 if token.ends is None else int(token.ends - self.clock())
            return Reply(200, {"data": {"ttl": ttl, "renewable": token.renewable}})
        if place == "auth/token/renew-self":
            return self._renew(asked, token)
        return self._read(asked, place)

    def _login(self, asked: Asked, place: str) -> Reply:
        assert asked.method == "POST"
        assert "x-vault-token" not in asked.headers
        if self.roles.get(place.removeprefix("auth/").removesuffix("/login")) != asked.json:
            return errors(400, "invalid role or secret ID CANARY")
        self.logins += 1
        name = f"hvs.login-{self.logins}"
        ends = self.clock() + self.lease["lease_duration"] if self.lease["lease_duration"] else None
        self.tokens[name] = Token(ends, self.lease["renewable"])
        return Reply(200, {"auth": {"client_token": name, "policies": ["default"], **self.lease}})

    def _renew(self, asked: Asked, token: Token) -> Reply:
        assert asked.method == "POST"
        if not token.renewable:
            return errors(400, "lease is not renewable")
        token.renewals += 1
        token.ends = self.clock() + token.period
        name = asked.headers["x-vault-token"]
        return Reply(200, {"auth": {"client_token": name, "lease_duration": token.period, "renewable": True}})

    def _read(self, asked: Asked, place: str) -> Reply:
        assert asked.method == "GET"
        secret = self.secrets.get(place)
        if secret is None:
            return errors(404)
        metadata = {
            "created_time": "2018-03-22T02:24:06.945319214Z",
            "deletion_time": "",
            "destroyed": False,
            "version": 2,
        }
        return Reply(200, {"lease_duration": 0, "data": {"data": secret.data, "metadata": metadata | secret.metadata}})

"""GitHub's REST API for Apps: installation access tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credentials.clouds.server import Asked, Reply, Service
from credentials.clouds.tokens import KEY, verified

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = ("read", "write", "admin")


def error(status: int, message: str = "CANARY") -> Reply:
    """An error as GitHub writes one."""
    return Reply(
        status, {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    )


class GitHub(Service):
    """App 12345 with one installation, of acme, on three repositories."""

    repositories = ("api", "web", "ops")
    permissions = {"contents": "write", "issues": "read", "metadata": "read"}  # noqa: RUF012 - never changed

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.change: dict[str, Any] = {}

    def answer(self, asked: Asked) -> Reply:
        """As documented under "Create an installation access token for an app"."""
        assert asked.headers["user-agent"]
        assert asked.headers["accept"] == "application/vnd.github+json"
        if asked.headers["x-github-api-version"] not in {"2022-11-28", "2026-03-10"}:
            return error(400)
        if not self._is_app(asked.headers["authorization"]):
            return error(401, "A JSON web token could not be decoded CANARY")
        if (asked.method, asked.path) != ("POST", "/app/installations/77/access_tokens"):
            return error(404)
        wish = asked.json if asked.body else {}
        wanted = wish.get("repositories", list(self.repositories))
        permissions = wish.get("permissions", self.permissions)
        if not set(wanted) <= set(self.repositories) or not self._granted(permissions):
            return error(422)
        content = {
            "token": "ghs_12345_eyJ.long.token",
            "expires_at": "2286-11-20T17:46:40Z",
            "permissions": {"metadata": "read", **permissions},
            "repository_selection": "selected" if "repositories" in wish else "all",
        }
        if "repositories" in wish:
            content["repositories"] = [{"id": 1, "name": name, "full_name": f"Acme/{name}"} for name in wanted]
        return Reply(201, content | self.change)

    def _is_app(self, authorization: str) -> bool:
        checked = verified(authorization.removeprefix("Bearer "), KEY.public_key())
        if checked is None:
            return False
        claims, now = checked[1], self.clock()
        assert set(claims) == {"iat", "exp", "iss"}
        return claims["iss"] == "12345" and claims["iat"] <= now - 59 and now < claims["exp"] <= now + 600

    def _granted(self, permissions: dict[str, str]) -> bool:
        return all(
            name in self.permissions and LEVELS.index(level) <= LEVELS.index(self.permissions[name])
            for name, level in permissions.items()
        )

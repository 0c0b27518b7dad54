"""Google Cloud's token services: OAuth 2.0 for service accounts, STS, IAM Credentials, the metadata server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credentials.clouds.server import Asked, Reply, Service
from credentials.clouds.tokens import KEY, refusal, verified

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "robot@project-1.iam.gserviceaccount.com"
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


class OAuth(Service):
    """https://oauth2.googleapis.com/token, for one service account with one key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock

    def answer(self, asked: Asked) -> Reply:
        """As documented under "Using OAuth 2.0 for server to server applications"."""
        assert (asked.method, asked.path) == ("POST", "/token")
        form = asked.form
        if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return refusal("unsupported_grant_type")
        checked = verified(form["assertion"], KEY.public_key())
        if checked is None or checked[0].get("kid") != "key-1":
            return refusal("invalid_grant")
        claims, now = checked[1], self.clock()
        if claims["aud"] != "https://oauth2.googleapis.com/token" or claims["iss"] != ACCOUNT:
            return refusal("invalid_grant")
        if not (claims["iat"] <= now < claims["exp"] <= claims["iat"] + 3600):
            return refusal("invalid_grant")
        if not claims["scope"].startswith("https://www.googleapis.com/auth/"):
            return refusal("invalid_scope")
        return Reply(200, {"access_token": f"ya29.{claims['scope']}", "expires_in": 3599, "token_type": "Bearer"})


class Exchange(Service):
    """https://sts.googleapis.com/v1/token, with one pool that trusts one token."""

    subject = "eyJ.subject.x"

    def answer(self, asked: Asked) -> Reply:
        """As documented under "Method: token"."""
        assert (asked.method, asked.path) == ("POST", "/v1/token")
        assert "authorization" not in asked.headers
        form = asked.form
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
        assert form["requested_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
        if form["audience"] != AUDIENCE:
            return refusal("invalid_target")
        if form["subject_token"] != self.subject:
            return refusal("invalid_grant")
        content: dict[str, Any] = {
            "access_token": f"ya29.federated.{form['scope']}",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        return Reply(200, content)


class Credentials(Service):
    """https://iamcredentials.googleapis.com, for the federated identity above."""

    def answer(self, asked: Asked) -> Reply:
        """As documented under "Method: projects.serviceAccounts.generateAccessToken"."""
        assert (asked.method, asked.path) == ("POST", f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken")
        if asked.headers.get("authorization") != f"Bearer ya29.federated.{CLOUD_PLATFORM}":
            return Reply(403, {"error": {"code": 403, "message": "CANARY", "status": "PERMISSION_DENIED"}})
        wish = asked.json
        assert set(wish) == {"scope", "lifetime"}
        if not 0 < int(wish["lifetime"].removesuffix("s")) <= 3600:
            return Reply(400, {"error": {"code": 400, "message": "CANARY", "status": "INVALID_ARGUMENT"}})
        content = {"accessToken": f"ya29.robot.{' '.join(wish['scope'])}", "expireTime": "2286-11-20T17:46:40Z"}
        return Reply(200, content)


class Metadata(Service):
    """A machine's metadata server; each of its answers says that it is Google's."""

    def answer(self, asked: Asked) -> Reply:
        """As documented under "Query the metadata server"."""
        flavor = {"Metadata-Flavor": "Google"}
        if asked.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in asked.headers:
            return Reply(403, b"CANARY", flavor)
        if asked.path != "/computeMetadata/v1/instance/service-accounts/default/token":
            return Reply(404, b"CANARY", flavor)
        scopes = asked.query.get("scopes", "default")
        return Reply(200, {"access_token": f"ya29.{scopes}", "expires_in": 3000, "token_type": "Bearer"}, flavor)

"""OAuth 2.0 token endpoints, and the JSON Web Tokens that clients sign in with."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from credentials.clouds.server import Asked, Reply, Service
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

# Made once: a key takes longer than all that is done with it.
KEY = rsa.generate_private_key(65_537, 2048)
OTHER_KEY = rsa.generate_private_key(65_537, 2048)


def pem(key: RSAPrivateKey, form: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> str:
    """A private key as it is handed out: GitHub writes PKCS #1, Google PKCS #8."""
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def refusal(code: str, status: int = 400) -> Reply:
    """An error of RFC 6749, section 5.2."""
    return Reply(status, {"error": code, "error_description": "CANARY", "error_uri": "https://CANARY.example"})


def verified(token: str, key: RSAPublicKey) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The header and the claims of a compact JWT by RS256; None if the signature is not by that key."""
    text, _, signature = token.rpartition(".")
    header, claims = (json.loads(_decoded(part)) for part in text.split("."))
    try:
        key.verify(_decoded(signature), text.encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        return None
    assert header["alg"] == "RS256"
    return header, claims


def _decoded(part: str) -> bytes:
    assert "=" not in part
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class TokenEndpoint(Service):
    """An authorization server with one client; its refresh tokens are good for one use each."""

    def __init__(self, client: str, secret: str | None) -> None:
        super().__init__()
        self.client = client
        self.secret = secret
        self.body_auth = False
        self.refresh = "refresh-1"
        self.rotates = True
        self.scopes: set[str] = set()
        self.given: dict[str, Any] = {"access_token": "access-1", "token_type": "Bearer", "expires_in": 3600}

    def answer(self, asked: Asked) -> Reply:
        """As RFC 6749 has it."""
        assert (asked.method, asked.path, asked.query) == ("POST", "/oauth/token", {})
        form = asked.form
        if not self._is_client(asked, form):
            return refusal("invalid_client", 401)
        if not set(form.get("scope", "").split()) <= self.scopes:
            return refusal("invalid_scope")
        if form["grant_type"] == "client_credentials":
            return Reply(200, self.given, {"Cache-Control": "no-store"})
        if form["grant_type"] != "refresh_token":
            return refusal("unsupported_grant_type")
        return self._refreshed(form)

    def _refreshed(self, form: dict[str, str]) -> Reply:
        if form["refresh_token"] != self.refresh:
            return refusal("invalid_grant")
        if not self.rotates:
            return Reply(200, self.given)
        kind, _, number = self.refresh.partition("-")
        self.refresh = f"{kind}-{int(number) + 1}"
        return Reply(200, {**self.given, "refresh_token": self.refresh})

    def _is_client(self, asked: Asked, form: dict[str, str]) -> bool:
        basic = asked.headers.get("authorization")
        if self.secret is None or self.body_auth:
            return basic is None and (form.get("client_id"), form.get("client_secret")) == (self.client, self.secret)
        if basic is None or "client_secret" in form:
            return False
        user, _, password = base64.b64decode(basic.removeprefix("Basic "), validate=True).decode().partition(":")
        return (unquote_plus(user), unquote_plus(password)) == (self.client, self.secret)

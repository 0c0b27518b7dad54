"""Access tokens of Google Cloud.

1. key      a service account's JSON key signs a JWT, which its token endpoint exchanges (RFC 7523)
2. config   workload identity federation: a token from a file or a local URL is exchanged at Google's Security Token
            Service (RFC 8693), then, if the file says so, for one of a service account
3. neither  the metadata service of the machine
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from egress.config.secret_sources import FileSource
from egress.credentials.providers.asking import Asking
from egress.credentials.providers.interface import Fetched
from egress.credentials.providers.jwt import signed
from egress.credentials.providers.token_endpoint import access_token, ask_for_token, still_valid
from egress.credentials.secret import Secret
from egress.credentials.sources import checked

if TYPE_CHECKING:
    from egress.config.secret_sources import GoogleSource
    from egress.credentials.providers.asking import Fields
    from egress.credentials.providers.interface import Means

_OK = 200
_DEFAULT_ENDPOINT = "https://oauth2.googleapis.com/token"
_EXCHANGE_URL = "https://sts.googleapis.com/v1/token"
_METADATA = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_REQUESTED = "urn:ietf:params:oauth:token-type:access_token"
_LIFETIME_SECONDS = 3600
_UNSUPPORTED = ("environment_id", "executable", "certificate")
_METADATA_HINTS = {
    403: "the machine's access scopes or policy do not allow it",
    404: "give the machine a service account",
}
_IMPERSONATION_HINTS = {
    403: "grant the pool's identity the role Service Account Token Creator, and switch on the IAM Credentials API",
    404: "check the service account in the configuration",
}


async def fetch(name: str, source: GoogleSource, means: Means) -> Fetched:
    """An access token, now."""
    if source.key is not None:
        return await _by_key(name, means.leaf(source.key), source.scopes, means)
    if source.config is not None:
        return await _federated(name, source.config, source.scopes, means)
    return await _by_metadata(name, source.scopes, means)


async def _by_key(name: str, key: Secret, scopes: tuple[str, ...], means: Means) -> Fetched:
    asking = Asking(name, "Google")
    fields = asking.parsed(key.reveal(), "needs a service account's key, and this is not the JSON of one")
    if fields.content.get("type") != "service_account":
        raise asking.error("needs a service account's key, and this is another JSON file", "see `config`")
    url = fields.text("token_uri") if "token_uri" in fields else _DEFAULT_ENDPOINT
    if not url.startswith("https://"):
        raise asking.error("would be asked without TLS", "the `token_uri` of the key must be https")
    now = int(means.now())
    claims: dict[str, str | int] = {
        "iss": fields.text("client_email"),
        "scope": " ".join(scopes),
        "aud": url,
        "iat": now,
        "exp": now + _LIFETIME_SECONDS,
    }
    key_id = fields.text("private_key_id") if "private_key_id" in fields else None
    assertion = signed(asking, claims, Secret(name, fields.text("private_key")), key_id=key_id)
    return (await ask_for_token(asking, means, url, {"grant_type": _JWT_GRANT, "assertion": assertion}))[1]


async def _federated(name: str, config: Path, scopes: tuple[str, ...], means: Means) -> Fetched:
    asking = Asking(name, "Google's Security Token Service")
    fields = asking.parsed(means.leaf(FileSource(config)).reveal(), "needs a credential configuration in JSON")
    if fields.content.get("type") != "external_account" or "workforce_pool_user_project" in fields:
        raise asking.error("needs the configuration of a workload identity pool", "its `type` is `external_account`")
    impersonated = "service_account_impersonation_url" in fields
    form = {
        "grant_type": _EXCHANGE_GRANT,
        "audience": fields.text("audience"),
        "scope": _CLOUD_PLATFORM if impersonated else " ".join(scopes),
        "requested_token_type": _REQUESTED,
        "subject_token_type": fields.text("subject_token_type"),
        "subject_token": await _subject_token(asking, fields.object("credential_source"), means),
    }
    url = _of_google(asking, fields, "token_url") if "token_url" in fields else _EXCHANGE_URL
    _, fetched = await ask_for_token(asking, means, url, form)
    return await _impersonated(name, fields, fetched.value, scopes, means) if impersonated else fetched


async def _subject_token(asking: Asking, source: Fields, means: Means) -> str:
    if any(key in source for key in _UNSUPPORTED) or ("file" in source) == ("url" in source):
        raise asking.error("needs a `credential_source` with either `file` or `url`", "use `command` for others")
    if "file" in source:
        text = means.leaf(FileSource(Path(source.text("file")))).reveal()
    else:
        headers = source.object("headers") if "headers" in source else None
        sent = {key: headers.text(key) for key in headers.content} if headers else {}
        answer = await means.call("GET", source.text("url"), headers=sent)
        if answer.status != _OK:
            raise Asking(asking.secret, "the URL of the `credential_source`").refusal(answer, {})
        text = answer.body.decode("utf-8", "replace")
    shape = source.object("format") if "format" in source else None
    if shape is not None and shape.content.get("type") == "json":
        text = asking.parsed(text, "needs a token in JSON").text(shape.text("subject_token_field_name"))
    return checked(asking.secret, text.strip(), "the token to exchange").reveal()


async def _impersonated(name: str, config: Fields, token: Secret, scopes: tuple[str, ...], means: Means) -> Fetched:
    asking = Asking(name, "Google's IAM Credentials")
    lifetime = _LIFETIME_SECONDS
    if "service_account_impersonation" in config:
        lifetime = int(config.object("service_account_impersonation").seconds("token_lifetime_seconds"))
    now = means.now()
    answer = await means.call(
        "POST",
        _of_google(asking, config, "service_account_impersonation_url"),
        headers={"Authorization": f"Bearer {token.reveal()}", "Content-Type": "application/json"},
        body=json.dumps({"scope": list(scopes), "lifetime": f"{lifetime}s"}).encode(),
    )
    if answer.status != _OK:
        raise asking.refusal(answer, _IMPERSONATION_HINTS)
    fields = asking.fields(answer)
    expires = still_valid(asking, fields.moment("expireTime"), now)
    return Fetched(asking.value(fields.text("accessToken")), expires=expires)


def _of_google(asking: Asking, config: Fields, key: str) -> str:
    """The URL at `key`. Such files are passed around: one that sends the tokens elsewhere must not work."""
    url = config.text(key)
    parts = urlsplit(url)
    if parts.scheme != "https" or not (parts.hostname or "").endswith(".googleapis.com") or "@" in parts.netloc:
        raise asking.error(f"has no such address: `{key}` of the configuration must be https at googleapis.com")
    return url


async def _by_metadata(name: str, scopes: tuple[str, ...], means: Means) -> Fetched:
    asking = Asking(name, "the metadata service")
    asked_at = means.now()
    query = f"?{urlencode({'scopes': ','.join(scopes)})}" if scopes else ""
    answer = await means.call("GET", _METADATA + query, headers={"Metadata-Flavor": "Google"})
    if answer.headers.get("metadata-flavor") != "Google":
        raise asking.error("is not Google's", "say `key` or `config`, or run on Google Cloud")
    if answer.status != _OK:
        raise asking.refusal(answer, _METADATA_HINTS)
    return access_token(asking.fields(answer), asked_at)

"""OAuth 2.0 token endpoints (RFC 6749, sections 4.4, 5 and 6), as every provider of access tokens asks them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from egress.credentials.providers.interface import Fetched
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.credentials.providers.asking import Asking, Fields
    from egress.credentials.providers.interface import Answer, Means

_OK = 200
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# RFC 6749, section 5.2, RFC 8693, section 2.2.2, and those that Azure's and Google's documentation add.
_HINTS = {
    "invalid_request": "the service does not take the request as it is; check the source's fields",
    "invalid_client": "check the client's id and its secret or assertion",
    "invalid_grant": "what the client signs in with is expired, revoked or not for this client; get it anew",
    "unauthorized_client": "allow the client this grant, where it is registered",
    "unsupported_grant_type": "the service does not know this grant; check the token URL",
    "invalid_scope": "check the scopes",
    "invalid_target": "check the audience",
    "invalid_resource": "check the resource",
    "access_denied": "grant the identity access",
    "temporarily_unavailable": "it is asked again later",
}


async def ask_for_token(
    asking: Asking,
    means: Means,
    url: str,
    form: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> tuple[Fields, Fetched]:
    """Post a form to a token endpoint; the answer's members, and its access token with the time that it has."""
    asked_at = means.now()
    answer = await means.call(
        "POST", secure(asking, url), headers={**_FORM, **(headers or {})}, body=urlencode(form).encode()
    )
    if answer.status != _OK:
        raise oauth_refusal(asking, answer)
    fields = asking.fields(answer)
    return fields, access_token(fields, asked_at)


def access_token(fields: Fields, asked_at: float) -> Fetched:
    """The bearer token of a successful answer. Its time counts from the moment before it was asked for."""
    asking = fields.asking
    if fields.text("token_type").lower() != "bearer":
        raise asking.error("gave a token that is not of the type Bearer")
    expires = asked_at + fields.seconds("expires_in") if "expires_in" in fields else None
    return Fetched(asking.value(fields.text("access_token")), expires=still_valid(asking, expires, asked_at))


def still_valid(asking: Asking, expires: float | None, now: float) -> float | None:
    """`expires`, if that is to come. Raises CredentialError for what is over already."""
    if expires is not None and expires <= now:
        raise asking.error("gave a value that has expired", "check the clocks of both machines")
    return expires


def oauth_refusal(asking: Asking, answer: Answer) -> CredentialError:
    """What an error of a token endpoint means. Its code is repeated if it is one that a specification lists."""
    code = ""
    try:
        code = asking.fields(answer).text("error")
    except CredentialError:
        code = ""
    if code not in _HINTS:
        return asking.refusal(answer, {})
    return asking.refusal(answer, {answer.status: _HINTS[code]}, said=code)


def secure(asking: Asking, url: str) -> str:
    """`url`, if a credential may go there: by https, or to a service on a loopback address."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return url
    raise asking.error("would be asked without TLS", "write https:// in its address")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

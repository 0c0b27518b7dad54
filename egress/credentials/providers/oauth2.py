"""Access tokens by the OAuth 2.0 grants for clients without a user: `client_credentials` and `refresh_token`.

A refresh token that the service replaces (RFC 6749, section 6) is handed back as `renewed`: the one used is void.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from egress.credentials.providers.asking import Asking
from egress.credentials.providers.token_endpoint import ask_for_token

if TYPE_CHECKING:
    from egress.config.secret_sources import OAuth2Source
    from egress.credentials.providers.interface import Fetched, Means

_OURS = frozenset({"grant_type", "client_id", "client_secret", "refresh_token", "scope"})


async def fetch(name: str, source: OAuth2Source, means: Means) -> Fetched:
    """An access token, now."""
    asking = Asking(name, "the token endpoint")
    form, headers = _request(asking, source, means)
    fields, fetched = await ask_for_token(asking, means, source.token_url, form, headers)
    if source.refresh_token is None or "refresh_token" not in fields:
        return fetched
    return replace(fetched, renewed=asking.value(fields.text("refresh_token")))


def _request(asking: Asking, source: OAuth2Source, means: Means) -> tuple[dict[str, str], dict[str, str]]:
    form = _grant(asking, source, means)
    if source.scopes:
        form["scope"] = " ".join(source.scopes)
    for key, value in source.extra:
        if key in _OURS:
            raise asking.error(f"would get the field `{key}` twice", "take it out of `extra`")
        form[key] = value
    if source.client_secret is None:
        # RFC 6749, section 3.2.1: a public client says who it is, and proves nothing.
        return {**form, "client_id": source.client_id}, {}
    secret = means.leaf(source.client_secret).reveal()
    if source.body_auth:
        return {**form, "client_id": source.client_id, "client_secret": secret}, {}
    # RFC 6749, section 2.3.1: both are form-encoded before they are joined, so a colon in the id cannot move the seam.
    pair = f"{quote_plus(source.client_id)}:{quote_plus(secret)}"
    return form, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _grant(asking: Asking, source: OAuth2Source, means: Means) -> dict[str, str]:
    if source.refresh_token is not None:
        return {"grant_type": "refresh_token", "refresh_token": means.leaf(source.refresh_token).reveal()}
    if source.client_secret is None:
        raise asking.error("gives a client without a secret nothing", "write `client_secret` or `refresh_token`")
    return {"grant_type": "client_credentials"}

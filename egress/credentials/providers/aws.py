"""AWS keys for signing: those given, or those of a role that they may assume (STS AssumeRole, Query API).

The value is what AWS's `credential_process` prints, on one line.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

from egress.credentials.providers.asking import Asking, instant
from egress.credentials.providers.interface import Fetched
from egress.credentials.providers.token_endpoint import secure, still_valid
from egress.credentials.sources import checked
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config.secret_sources import AwsSource
    from egress.credentials.providers.interface import Answer, Means
    from egress.credentials.secret import Secret

_OK = 200
_VERSION = "2011-06-15"
_NAMESPACE = f"{{https://sts.amazonaws.com/doc/{_VERSION}/}}"
_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_HINTS = {
    "AccessDenied": "let the role's trust policy and the caller's policy allow `sts:AssumeRole`; check `external_id`",
    "ExpiredToken": "the session token is over; give new keys",
    "ExpiredTokenException": "the session token is over; give new keys",
    "InvalidClientTokenId": "check `access_key_id`",
    "SignatureDoesNotMatch": "check `secret_access_key`, and this machine's clock",
    "MalformedPolicyDocument": "check `session_policy`",
    "PackedPolicyTooLarge": "shorten `session_policy`",
    "RegionDisabledException": "switch STS on in this region, or name another `region`",
    "ValidationError": "check `role_arn`, `session_name` and `duration_seconds`",
    "Throttling": "it is asked too often; it is asked again later",
}


class Sign(Protocol):
    """Signature Version 4 of a POST to STS."""

    def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, *, keys: Keys, region: str, now: float
    ) -> Mapping[str, str]:
        """The header fields to add to `headers`."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs: keys that were given. `token` belongs to keys that end."""

    access_key_id: str
    secret_access_key: Secret
    token: Secret | None = None


async def fetch(name: str, source: AwsSource, means: Means, *, sign: Sign | None = None) -> Fetched:
    """The keys, now."""
    asking = Asking(name, "AWS STS")
    keys = _given(asking, source, means)
    if source.role_arn is None:
        return Fetched(asking.value(_process_output(keys.access_key_id, keys.secret_access_key, keys.token)))
    url = secure(asking, source.endpoint or _endpoint(asking, source.region))
    now = means.now()
    headers = {"Content-Type": _FORM, "Accept": "application/xml"}
    body = urlencode(_wish(source)).encode()
    own = (sign or _signed)(url, headers, body, keys=keys, region=source.region, now=now)
    answer = await means.call("POST", url, headers={**headers, **own}, body=body)
    if answer.status != _OK:
        raise _refusal(asking, answer)
    return _assumed(asking, answer, now)


def _given(asking: Asking, source: AwsSource, means: Means) -> Keys:
    if re.fullmatch(r"[A-Za-z0-9_]{16,128}", source.access_key_id) is None:
        raise asking.error("knows no such access key", "check `access_key_id`")
    key, token = means.leaf(source.secret_access_key), None
    if source.session_token is not None:
        token = checked(asking.secret, means.leaf(source.session_token).reveal(), "`session_token`")
    return Keys(source.access_key_id, checked(asking.secret, key.reveal(), "`secret_access_key`"), token)


def _process_output(key_id: str, key: Secret, token: Secret | None, expiration: str | None = None) -> str:
    content: dict[str, str | int] = {"Version": 1, "AccessKeyId": key_id, "SecretAccessKey": key.reveal()}
    if token is not None:
        content["SessionToken"] = token.reveal()
    if expiration is not None:
        content["Expiration"] = expiration
    return json.dumps(content, separators=(",", ":"))


def _endpoint(asking: Asking, region: str) -> str:
    # It becomes part of a host name.
    if re.fullmatch(r"[a-z]{2,}(-[a-z0-9]+)+", region) is None:
        raise asking.error("is in no such region", "check `region`")
    return f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}/"


def _wish(source: AwsSource) -> dict[str, str]:
    wish = {
        "Action": "AssumeRole",
        "Version": _VERSION,
        "RoleArn": source.role_arn or "",
        "RoleSessionName": source.session_name,
        "DurationSeconds": str(source.duration_seconds),
    }
    if source.external_id is not None:
        wish["ExternalId"] = source.external_id
    if source.session_policy is not None:
        wish["Policy"] = source.session_policy
    return wish


def _signed(
    url: str, headers: Mapping[str, str], body: bytes, *, keys: Keys, region: str, now: float
) -> Mapping[str, str]:
    from egress.credentials import sigv4  # noqa: PLC0415 - only for a role

    parts = urlsplit(url)
    message = sigv4.Message(
        method="POST",
        host=parts.netloc.encode(),
        path=parts.path or "/",
        query=None,
        fields=[(key.encode(), value.encode()) for key, value in headers.items()],
        payload=hashlib.sha256(body).hexdigest(),
    )
    signer = sigv4.Keys(keys.access_key_id, keys.secret_access_key, keys.token)
    fields = sigv4.signed_in_header(
        message, signer, sigv4.Scope(region, "sts"), now, {b"content-type"}, tells_payload=False
    )
    return {key.decode(): value.decode() for key, value in fields}


def _assumed(asking: Asking, answer: Answer, now: float) -> Fetched:
    credentials = _parsed(asking, answer).find(f"{_NAMESPACE}AssumeRoleResult/{_NAMESPACE}Credentials")
    if credentials is None:
        raise asking.error("sent an answer without keys")
    expiration = _member(asking, credentials, "Expiration")
    if _EXPIRATION.fullmatch(expiration) is None:
        raise asking.error("sent an answer with a moment that cannot be read")
    expires = still_valid(asking, instant(asking, expiration), now)
    key, token = (
        checked(asking.secret, _member(asking, credentials, tag), f"the {tag} that AWS STS gave")
        for tag in ("SecretAccessKey", "SessionToken")
    )
    value = _process_output(_member(asking, credentials, "AccessKeyId"), key, token, expiration)
    return Fetched(asking.value(value), expires=expires)


def _refusal(asking: Asking, answer: Answer) -> CredentialError:
    code = ""
    try:
        code = _parsed(asking, answer).findtext(f"{_NAMESPACE}Error/{_NAMESPACE}Code") or ""
    except CredentialError:
        code = ""
    if code not in _HINTS:
        return asking.refusal(answer, {})
    return asking.refusal(answer, {answer.status: _HINTS[code]}, said=code)


def _parsed(asking: Asking, answer: Answer) -> ET.Element:
    """The XML of an answer. INVARIANT bounded: a document that declares anything is refused before it is parsed.

    Entities come from declarations alone, and UTF-8 has one spelling for them.
    """
    root = None
    try:
        text = answer.body.decode("utf-8")
        if "<!" not in text:
            root = ET.fromstring(text)  # noqa: S314 - without declarations there is nothing to expand
    except (UnicodeDecodeError, ET.ParseError):
        root = None
    if root is None:
        raise asking.error("sent an answer that is not the XML of its documentation")
    return root


def _member(asking: Asking, parent: ET.Element, tag: str) -> str:
    text = parent.findtext(f"{_NAMESPACE}{tag}")
    if not text:
        raise asking.error(f"sent an answer without `{tag}`")
    return text

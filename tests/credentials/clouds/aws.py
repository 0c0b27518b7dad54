"""AWS's Security Token Service: AssumeRole by the Query API, its signature checked from the published description."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from credentials.clouds.server import Asked, Reply, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_ID, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ROLE = "arn:aws:iam::123456789012:role/agent"
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, ?"
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


def signature(key: str, scope: tuple[str, str, str], stamp: str, headers: Mapping[str, str], body: bytes) -> str:
    """The signature of a POST to `/` whose signed `headers` are these, by lower-case name."""
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    canonical = f"POST\n/\n\n{lines}\n{';'.join(names)}\n{hashlib.sha256(body).hexdigest()}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{'/'.join(scope)}/aws4_request\n{digest}"
    derived = f"AWS4{key}".encode()
    for part in (*scope, "aws4_request", text):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    return derived.hex()


def sign(url: str, headers: Mapping[str, str], body: bytes, *, keys: Any, region: str, now: float) -> Mapping[str, str]:
    """What signs in these tests where the product's own signing is not there."""
    stamp = datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ")
    own = {"X-Amz-Date": stamp}
    if keys.token is not None:
        own["X-Amz-Security-Token"] = keys.token.reveal()
    host = url.removeprefix("https://").partition("/")[0]
    covered = {"host": host, "content-type": headers["Content-Type"], **{name.lower(): own[name] for name in own}}
    scope = (stamp[:8], region, "sts")
    made = signature(keys.secret_access_key.reveal(), scope, stamp, covered, body)
    credential = f"{keys.access_key_id}/{'/'.join(scope)}/aws4_request"
    own["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(sorted(covered))}, Signature={made}"
    )
    return own


def error(code: str, status: int = 403) -> Reply:
    """An error as the Query API writes one."""
    text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>CANARY</Message></Error>"
    return Reply(status, f'<ErrorResponse xmlns="{NAMESPACE}">{text}<RequestId>r</RequestId></ErrorResponse>'.encode())


class Sts(Service):
    """STS in one region, which knows one key and one role."""

    def __init__(self, clock: Callable[[], float], region: str = "us-east-1") -> None:
        super().__init__()
        self.clock = clock
        self.region = region
        self.token: str | None = None
        self.external_id: str | None = None
        self.expiration = "2286-11-20T17:46:40Z"

    def answer(self, asked: Asked) -> Reply:
        """As documented under "AssumeRole" and "Signature Version 4"."""
        assert (asked.method, asked.target) == ("POST", "/")
        fault = self._unsigned(asked)
        if fault is not None:
            return fault
        form = asked.form
        if (form["Action"], form["Version"]) != ("AssumeRole", "2011-06-15"):
            return error("InvalidAction", 400)
        valid = (
            re.fullmatch(r"[\w+=,.@-]{2,64}", form["RoleSessionName"]) and 900 <= int(form["DurationSeconds"]) <= 43_200
        )
        if not valid:
            return error("ValidationError", 400)
        if form["RoleArn"] != ROLE or form.get("ExternalId") != self.external_id:
            return error("AccessDenied")
        return Reply(200, self._given(), {"Content-Type": "text/xml"})

    def _given(self) -> bytes:
        credentials = (
            "<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>temporary/key+&amp;=</SecretAccessKey>"
            f"<SessionToken>session//token==</SessionToken><Expiration>{self.expiration}</Expiration>"
        )
        result = f"<AssumeRoleResult><Credentials>{credentials}</Credentials></AssumeRoleResult>"
        return f'<AssumeRoleResponse xmlns="{NAMESPACE}">\n  {result}</AssumeRoleResponse>'.encode()

    def _unsigned(self, asked: Asked) -> Reply | None:
        found = _AUTHORIZATION.fullmatch(asked.headers.get("authorization", ""))
        if found is None:
            return error("MissingAuthenticationToken")
        if found["id"] != KEY_ID or asked.headers.get("x-amz-security-token") != self.token:
            return error("InvalidClientTokenId")
        names = found["names"].split(";")
        assert {"host", "x-amz-date"} <= set(names)
        assert "x-amz-security-token" in names or self.token is None
        stamp = asked.headers["x-amz-date"]
        scope = (found["date"], found["region"], found["service"])
        moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        signed = {name: asked.headers[name] for name in names}
        expected = signature(KEY, scope, stamp, signed, asked.body)
        right = scope == (stamp[:8], self.region, "sts") and abs(self.clock() - moment) < 300
        return None if right and expected == found["signature"] else error("SignatureDoesNotMatch")

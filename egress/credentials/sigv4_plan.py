"""How a request is signed anew with Signature Version 4: what the client's own signature tells, and what refuses it.

1. form      a request that was signed in its query is signed there again, any other in its header
2. scope     region and service: the rule's, else those of the client's signature, else what an AWS host's name says
3. payload   what the client declares for its body holds, unread; S3 takes a body that nobody signed; any other is read
4. time      ours, whatever the client's clock says; a query is good for 5 minutes at most, since it goes up at once
5. keys      of the client's own signature nothing goes up: neither keys, token nor time, in header or query

Refused, since nobody can sign it from here: a body that is signed chunk by chunk, SigV4A, Signature Version 2, a
request that is signed twice or unreadably.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from egress.credentials import sigv4
from egress.credentials.aws_hosts import scope_of_host
from egress.credentials.aws_keys import read_keys
from egress.credentials.sigv4 import S3_SERVICES, UNSIGNED_PAYLOAD, Keys, Message, Scope
from egress.policy import Reason, Refusal

if TYPE_CHECKING:
    from egress.credentials.signature import Bytes, Field, Outgoing, Signature
    from egress.policy import Request, SigV4

EXPIRES_AT_MOST: Final = 300
_SIGNED_ANYHOW: Final = frozenset({b"content-type", b"content-md5"})
# What a hop changes, frames or writes anew: a signature over it would not hold.
_NEVER_SIGNED: Final = frozenset(
    {
        *(b"authorization", b"connection", b"content-length", b"cookie", b"expect", b"forwarded", b"host"),
        *(b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"),
        *(b"upgrade", b"user-agent", b"via", b"x-amzn-trace-id", b"x-forwarded-for"),
    }
)
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_UNSIGNED_STREAM: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CREDENTIAL_PARTS: Final = 5


@dataclass(frozen=True, slots=True)
class Sigv4Plan:
    """`payload` None: the hash of the body. `listed`: names, in lower case, that the client signed.

    `expires` None: in the header. `tells_payload`: with the header, or parameter, that says what the payload is.
    """

    scope: Scope
    payload: str | None
    listed: frozenset[bytes]
    expires: int | None
    tells_payload: bool

    @property
    def reads_body(self) -> bool:
        """Whether the body is hashed here."""
        return self.payload is None

    def with_value(self, value: str, body: Bytes | None) -> Signature:
        """As `Plan` says."""
        payload = hashlib.sha256(body or b"").hexdigest() if self.payload is None else self.payload
        return Sigv4Signature(replace(self, payload=payload), read_keys(value), payload)


@dataclass(frozen=True, slots=True)
class Sigv4Signature:
    """A plan with keys and a payload."""

    plan: Sigv4Plan
    keys: Keys
    payload: str

    def put_on(self, sent: Outgoing) -> tuple[str | None, list[Field]]:
        """As `Signature` says."""
        plan, fields = self.plan, list(sent.fields)
        query = sigv4.without_signature(sent.query)
        message = Message(sent.method, sent.host, sent.path, query, fields, self.payload)
        names = self._names(fields)
        if plan.expires is None:
            own = sigv4.signed_in_header(
                message, self.keys, plan.scope, sent.now, names, tells_payload=plan.tells_payload
            )
            return query, [*fields, *own]
        presigned = sigv4.signed_in_query(
            message,
            self.keys,
            plan.scope,
            sent.now,
            names,
            expires=plan.expires,
            tells_payload=plan.tells_payload,
        )
        return presigned, fields

    def _names(self, fields: list[Field]) -> frozenset[bytes]:
        """What is signed of what goes up: what AWS asks for, and what the client signed too."""
        names = [name.lower() for name, _ in fields]
        return frozenset(
            name
            for name in names
            if name not in _NEVER_SIGNED
            and (name.startswith(b"x-amz-") or name in _SIGNED_ANYHOW or name in self.plan.listed)
        )


@dataclass(frozen=True, slots=True)
class NoSignature:
    """Where the keys may not go: the client's own signature is taken out of the query, and no other comes in."""

    def put_on(self, sent: Outgoing) -> tuple[str | None, list[Field]]:
        """As `Signature` says."""
        return sigv4.without_signature(sent.query), list(sent.fields)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a client's signature says of itself; all None or empty: there is none. `expires` None: in the header."""

    scope: Scope | None = None
    listed: frozenset[bytes] = frozenset()
    expires: int | None = None
    payload: str | None = None


def plan_sigv4(sign: SigV4, request: Request) -> Sigv4Plan | Refusal:
    """How `request`, as it goes up, is signed; or why it cannot be."""
    claim = _claim(request)
    if isinstance(claim, Refusal):
        return claim
    known = claim.scope or scope_of_host(request.host.text)
    region = sign.region or (known.region if known else None)
    service = sign.service or (known.service if known else None)
    if region is None or service is None:
        return _refused("the client does not sign it, and neither rule nor host says for which region and service")
    payload = _payload(request, claim)
    if isinstance(payload, Refusal):
        return payload
    tells = payload is not None
    if payload is None and service in S3_SERVICES:
        payload = UNSIGNED_PAYLOAD
        # In a query there is nothing else that it could be.
        tells = claim.expires is None
    return Sigv4Plan(Scope(region, service), payload, claim.listed, claim.expires, tells)


def _refused(detail: str) -> Refusal:
    return Refusal(Reason.REQUEST_NOT_SIGNABLE, f"{detail[0].upper()}{detail[1:]}.")


def _claim(request: Request) -> _Claim | Refusal:
    """What the client's own signature says, in the header or in the query."""
    values = _values(request, "authorization")
    parameters = _parameters(request.query)
    if "awsaccesskeyid" in parameters or any(value.startswith("AWS ") for value in values):
        return _refused("the client signs with Signature Version 2")
    if "x-amz-region-set" in parameters or _values(request, "x-amz-region-set"):
        return _refused("the client signs for several regions (SigV4A), which needs another kind of key")
    in_query = not parameters.keys().isdisjoint({"x-amz-algorithm", "x-amz-signature", "x-amz-credential"})
    in_header = any(value.startswith("AWS4-") for value in values)
    if "x-amz-s3session-token" in parameters or _values(request, "x-amz-s3session-token"):
        return _refused("the client signs with the keys of an S3 Express session")
    if len(values) > 1 or (in_query and in_header):
        return _refused("the client signs it twice")
    if in_query:
        return _claim_in_query(parameters)
    return _claim_in_header(values[0]) if in_header else _Claim()


def _claim_in_header(value: str) -> _Claim | Refusal:
    algorithm, _, rest = value.partition(" ")
    parts = [part.partition("=") for part in rest.split(",")]
    named = {name.strip(): each.strip() for name, _, each in parts}
    if len(named) != len(parts):
        return _refused("the client's signature names something twice")
    return _read(algorithm, named.get("Credential", ""), named.get("SignedHeaders", ""), None)


def _claim_in_query(parameters: dict[str, list[str]]) -> _Claim | Refusal:
    if any(len(parameters.get(name, ())) > 1 for name in sigv4.SIGNATURE_PARAMETERS):
        return _refused("the client's signature names something twice")
    stated = {name: parameters.get(name, [""])[0] for name in sigv4.SIGNATURE_PARAMETERS}
    asked = stated["x-amz-expires"]
    if asked and not (asked.isascii() and asked.isdigit() and int(asked[:9]) > 0):
        return _refused("the client's signature cannot be read")
    # What comes back may hold the whole URL: it is good for no longer than it takes to be used.
    expires = min(int(asked[:9]), EXPIRES_AT_MOST) if asked else EXPIRES_AT_MOST
    claim = _read(stated["x-amz-algorithm"], stated["x-amz-credential"], stated["x-amz-signedheaders"], expires)
    payload = stated["x-amz-content-sha256"] or None
    return claim if isinstance(claim, Refusal) else replace(claim, payload=payload)


def _read(algorithm: str, credential: str, listed: str, expires: int | None) -> _Claim | Refusal:
    if algorithm != sigv4.ALGORITHM:
        return _refused("the client signs with another algorithm than `AWS4-HMAC-SHA256`")
    parts = credential.split("/")
    if len(parts) != _CREDENTIAL_PARTS or parts[-1] != "aws4_request":
        return _refused("the client's signature cannot be read")
    _, _, region, service, _ = parts
    if not (_WORD.fullmatch(region) and _WORD.fullmatch(service)):
        return _refused("the client's signature cannot be read")
    names = frozenset(name.lower().encode("latin-1", "replace") for name in listed.split(";"))
    return _Claim(Scope(region, service), names, expires)


def _payload(request: Request, claim: _Claim) -> str | Refusal | None:
    """What the client declares for its body; None: nothing."""
    values = _values(request, "x-amz-content-sha256")
    if claim.payload is not None:
        values.append(claim.payload)
    if len(set(values)) > 1:
        return _refused("the client declares two hashes of its body")
    if not values:
        return None
    (declared,) = set(values)
    if _HASH.fullmatch(declared) or declared in {UNSIGNED_PAYLOAD, _UNSIGNED_STREAM}:
        return declared
    if declared.startswith("STREAMING-"):
        return _refused("the client signs its body chunk by chunk, which only the owner of the key can")
    return _refused("the client declares a hash of its body that is none")


def _values(request: Request, name: str) -> list[str]:
    return [value.strip() for each, value in request.headers if each.lower() == name]


def _parameters(query: str | None) -> dict[str, list[str]]:
    """The parameters of a query, their names in lower case."""
    found: dict[str, list[str]] = {}
    for part in (query or "").split("&"):
        name, value = sigv4.parameter(part)
        found.setdefault(name.lower(), []).append(value)
    return found

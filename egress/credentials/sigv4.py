"""AWS Signature Version 4: the canonical form of a request, and its signature, in a header or in the query. Pure.

Bytes in, bytes out; who calls says which headers are signed and what stands for the payload.

1. what is signed is read from what goes up: the canonical form is made of the wire's own path, query and fields
2. the path: S3 and its kin take it decoded, then encoded once; the others normalise it, and encode it as it was sent
3. the query: decoded (`+` is a space, as forms have it), each part encoded again, then sorted
4. INVARIANT secret-confinement: the access key's id and the session token go up; of the secret key only an HMAC does
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from egress.credentials.secret import Secret

type Field = tuple[bytes, bytes]

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
# Services that sign a path as it is, and take a payload that is not signed.
S3_SERVICES: Final = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})
# Query parameters that carry a signature, in lower case.
SIGNATURE_PARAMETERS: Final = frozenset(
    {
        *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders"),
        *("x-amz-signature", "x-amz-security-token", "x-amz-content-sha256"),
    }
)
_TERMINATOR: Final = "aws4_request"


@dataclass(frozen=True, slots=True)
class Keys:
    """What AWS gives who may sign. `token` belongs to keys that end."""

    access_key_id: str
    secret_access_key: Secret
    token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for, besides its day."""

    region: str
    service: str

    def text(self, date: str) -> str:
        """The credential scope: `20150830/us-east-1/s3/aws4_request`."""
        return f"{date}/{self.region}/{self.service}/{_TERMINATOR}"


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it goes up. `fields` are without those that a signature sets.

    `payload` is what stands for the body: its hash, or a word that says that it is not signed.
    """

    method: str
    host: bytes
    path: str
    query: str | None
    fields: Sequence[Field]
    payload: str


def signed_in_header(
    message: Message, keys: Keys, scope: Scope, now: float, names: Collection[bytes], *, tells_payload: bool
) -> list[Field]:
    """The fields that sign a request, at its end. `names`, in lower case: those of its own fields that are covered.

    `tells_payload`: with the header that says what stands for the body, as S3 asks for.
    """
    stamp = timestamp(now)
    own = [(b"X-Amz-Date", stamp.encode())]
    if keys.token is not None:
        own.append((b"X-Amz-Security-Token", keys.token.reveal().encode()))
    if tells_payload:
        own.append((b"X-Amz-Content-Sha256", message.payload.encode()))
    fields = [*message.fields, *own]
    covered = {*names, *(name.lower() for name, _ in own)}
    listed, lines = canonical_headers(message.host, fields, covered)
    canonical = canonical_request(message, canonical_query(message.query), lines, listed, scope)
    signature = sign(canonical, keys, scope, stamp)
    credential = f"{keys.access_key_id}/{scope.text(stamp[:8])}"
    value = f"{ALGORITHM} Credential={credential}, SignedHeaders={listed}, Signature={signature}"
    return [*own, (b"Authorization", value.encode())]


def signed_in_query(
    message: Message,
    keys: Keys,
    scope: Scope,
    now: float,
    names: Collection[bytes],
    *,
    expires: int,
    tells_payload: bool = False,
) -> str:
    """The query of a presigned request: its own without the signature it had, then ours. `expires`: seconds."""
    stamp = timestamp(now)
    listed, lines = canonical_headers(message.host, message.fields, names)
    own = [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{keys.access_key_id}/{scope.text(stamp[:8])}"),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", str(expires)),
        ("X-Amz-SignedHeaders", listed),
    ]
    if tells_payload:
        own.append(("X-Amz-Content-Sha256", message.payload))
    if keys.token is not None:
        own.append(("X-Amz-Security-Token", keys.token.reveal()))
    written = "&".join(f"{name}={_encoded(value)}" for name, value in own)
    query = f"{message.query}&{written}" if message.query else written
    canonical = canonical_request(message, canonical_query(query), lines, listed, scope)
    return f"{query}&X-Amz-Signature={sign(canonical, keys, scope, stamp)}"


def without_signature(query: str | None) -> str | None:
    """A query without the parameters of a signature, each other part as it was sent."""
    if not query:
        return query
    kept = [part for part in query.split("&") if parameter(part)[0].lower() not in SIGNATURE_PARAMETERS]
    return "&".join(kept) or None


def parameter(part: str) -> tuple[str, str]:
    """One part of a query, decoded as far as Latin-1 goes: for names and values of our own."""
    name, _, value = part.partition("=")
    return _decoded(name).decode("latin-1"), _decoded(value).decode("latin-1")


def canonical_request(message: Message, query: str, lines: bytes, listed: str, scope: Scope) -> bytes:
    """Method, path, query, headers, their names, and the payload, each on lines of its own."""
    path = canonical_path(message.path, scope.service)
    head = f"{message.method}\n{path}\n{query}\n".encode("ascii")
    return head + lines + f"\n{listed}\n{message.payload}".encode("ascii")


def canonical_path(path: str, service: str) -> str:
    """The path as `service` reads it."""
    if service in S3_SERVICES:
        return quote(unquote_to_bytes(path), safe="/-_.~") or "/"
    return quote(normal_path(path), safe="/-_.~")


def normal_path(path: str) -> str:
    """The path without empty and dot segments."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def canonical_query(query: str | None) -> str:
    """Each name and value encoded alike, then sorted by both."""
    parts = [part.partition("=") for part in (query or "").split("&") if part]
    pairs = sorted((_encoded(_decoded(name)), _encoded(_decoded(value))) for name, _, value in parts)
    return "&".join(f"{name}={value}" for name, value in pairs)


def canonical_headers(host: bytes, fields: Iterable[Field], names: Collection[bytes]) -> tuple[str, bytes]:
    """The list of names that are signed, and a line for each: values trimmed, runs of spaces made one, joined."""
    found: dict[bytes, list[bytes]] = {b"host": [host]}
    for name, value in fields:
        lower = name.lower()
        if lower in names and lower != b"host":
            found.setdefault(lower, []).append(b" ".join(value.split()))
    ordered = sorted(found)
    lines = b"".join(name + b":" + b",".join(found[name]) + b"\n" for name in ordered)
    return b";".join(ordered).decode("ascii"), lines


def sign(canonical: bytes, keys: Keys, scope: Scope, stamp: str) -> str:
    """The signature of a canonical request at `stamp` (`20150830T123600Z`)."""
    date = stamp[:8]
    digest = hashlib.sha256(canonical).hexdigest()
    signed = f"{ALGORITHM}\n{stamp}\n{scope.text(date)}\n{digest}"
    key = b"AWS4" + keys.secret_access_key.reveal().encode()
    for part in (date, scope.region, scope.service, _TERMINATOR, signed):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def timestamp(now: float) -> str:
    """Seconds since 1970 as AWS writes a moment: ISO 8601, basic form, UTC."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ")


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


def _encoded(text: str | bytes) -> str:
    return quote(text, safe="-_.~")

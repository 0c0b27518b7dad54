"""A server's side of signatures: checks what came as the specification of Signature Version 4 says, and of HMACs.

Written from the documents of AWS, apart from the signer: where both are wrong in the same way, the published vectors
tell.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from rig.modes import Mode

if TYPE_CHECKING:
    from harness.origins import Connection, Origins

UNRESERVED = "-_.~"


@dataclass(frozen=True)
class Came:
    """A request as the server got it. `fields` have lower-case names, one entry a value."""

    method: str
    path: str
    query: str
    host: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of a field."""
        return [value for each, value in self.fields if each == name]

    @property
    def parameters(self) -> dict[str, str]:
        """The query's parameters, decoded."""
        return {unquote(name): unquote(value) for name, _, value in map(_halves, self.query.split("&"))}


def came(origin: Origins, mode: Mode) -> Came:
    """The one request that an origin got."""
    (record,) = [each for each in origin.connections if each.requests]
    return read(record, mode)


def read(record: Connection, mode: Mode) -> Came:
    """The one request on a connection; of HTTP/2 without its body."""
    (request,) = record.requests
    if mode is Mode.TLS2:
        rows = [(str(name), str(value)) for name, value in request]  # type: ignore[attr-defined]
        pseudo = dict(row for row in rows if row[0].startswith(":"))
        path, _, query = pseudo[":path"].partition("?")
        fields = tuple(row for row in rows if not row[0].startswith(":"))
        return Came(pseudo[":method"], path, query, pseudo[":authority"], fields, b"")
    method, target, _ = request.line.decode().split(" ")
    path, _, query = target.partition("?")
    fields = tuple((name.decode().lower(), value.decode().strip()) for name, value in request.fields)
    (host,) = [value for name, value in fields if name == "host"]
    return Came(method, path, query, host, fields, bytes(record.received).split(b"\r\n\r\n", 1)[1])


def signed_by(sent: Came, secret: str, *, body: bytes | None = None) -> dict[str, str]:
    """What a request's signature says, once it is found to be right; AssertionError where it is not."""
    header = sent.values("authorization")
    assert len(header) <= 1
    if header:
        algorithm, _, rest = header[0].partition(" ")
        claim = {name: value for name, _, value in map(_halves, rest.split(", "))}
        stamp, query = sent.values("x-amz-date")[0], sent.query
        payloads = sent.values("x-amz-content-sha256")
    else:
        algorithm = sent.parameters["X-Amz-Algorithm"]
        claim = {name: sent.parameters[f"X-Amz-{name}"] for name in ("Credential", "SignedHeaders", "Signature")}
        claim["Expires"] = sent.parameters["X-Amz-Expires"]
        stamp = sent.parameters["X-Amz-Date"]
        query = "&".join(part for part in sent.query.split("&") if not part.startswith("X-Amz-Signature="))
        payloads = ["UNSIGNED-PAYLOAD"]
    assert algorithm == "AWS4-HMAC-SHA256"
    key_id, date, region, service, end = claim["Credential"].split("/")
    assert (date, end) == (stamp[:8], "aws4_request")
    names = claim["SignedHeaders"].split(";")
    assert names == sorted(names)
    assert "host" in names
    # Else somebody could add one on the way.
    assert {name for name, _ in sent.fields if name.startswith("x-amz-")} <= set(names)
    whole = sent.body if body is None else body
    payload = payloads[0] if payloads else hashlib.sha256(whole).hexdigest()
    path = sent.path if service == "s3" else quote(sent.path, safe=f"/{UNRESERVED}")
    lines = "".join(f"{name}:{_value(sent, name)}\n" for name in names)
    canonical = "\n".join([sent.method, path, _canonical(query), lines, claim["SignedHeaders"], payload])
    scope = f"{date}/{region}/{service}/{end}"
    text = f"{algorithm}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, end, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert claim["Signature"] == key.hex(), canonical
    return claim | {"key": key_id, "region": region, "service": service, "payload": payload, "stamp": stamp}


def _value(sent: Came, name: str) -> str:
    if name == "host":
        return sent.host
    values = sent.values(name)
    assert values, f"{name} is signed, and is not there"
    return ",".join(" ".join(value.split()) for value in values)


def _canonical(query: str) -> str:
    parts = [_halves(part) for part in query.split("&") if part]
    return "&".join(sorted(f"{_encoded(name)}={_encoded(value)}" for name, _, value in parts))


def _encoded(text: str) -> str:
    return quote(unquote(text), safe=UNRESERVED)


def _halves(text: str) -> tuple[str, str, str]:
    return text.partition("=")

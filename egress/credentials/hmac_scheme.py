"""Signs a request with an HMAC of a message that a rule writes as a template (RFC 2104).

A variable stands for what goes up. Those of the client's making (path, headers, body) are put in as they are: where two
of them touch, as in `${path}${body}`, a client may move the line between them, so that a message wants a separator that
neither can hold.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.credentials.secret import Secret
from egress.policy import KeyForm, SignatureEncoding, Variable

if TYPE_CHECKING:
    from egress.credentials.signature import Bytes, Field, Outgoing, Signature
    from egress.policy import HmacScheme, SignatureText


@dataclass(frozen=True, slots=True)
class HmacPlan:
    """A scheme tells all there is to know beforehand."""

    scheme: HmacScheme

    @property
    def reads_body(self) -> bool:
        """As `Plan` says."""
        return self.scheme.reads_body

    def with_value(self, value: str, body: Bytes | None) -> Signature:
        """As `Plan` says."""
        _key(self.scheme.key, value)
        return HmacSignature(self.scheme, Secret(self.scheme.secret, value), body if self.reads_body else None)


@dataclass(frozen=True, slots=True)
class HmacSignature:
    """A scheme with its key, and the body if that is signed."""

    scheme: HmacScheme
    secret: Secret
    body: Bytes | None = field(default=None, repr=False)

    def put_on(self, sent: Outgoing) -> tuple[str | None, list[Field]]:
        """As `Signature` says."""
        scheme = self.scheme
        known = _known(sent)
        message = b"".join(self._part(part, known, sent) for part in scheme.message)
        signed = hmac.digest(_key(scheme.key, self.secret.reveal()), message, scheme.algorithm.value)
        written = base64.b64encode(signed) if scheme.encoding is SignatureEncoding.BASE64 else signed.hex().encode()
        known["signature"] = written
        texts = ((scheme.header, scheme.value), *scheme.also)
        own = [(name.encode(), _filled(text, known)) for name, text in texts]
        return sent.query, [*sent.fields, *own]

    def _part(self, part: str | Variable, known: dict[str, bytes], sent: Outgoing) -> bytes:
        if isinstance(part, str):
            return part.encode()
        match part.name:
            case "body":
                return bytes(self.body or b"")
            case "body_sha256":
                return hashlib.sha256(self.body or b"").hexdigest().encode()
            case "header":
                name = part.header.encode()
                return b", ".join(value for each, value in _with_host(sent) if each.lower() == name)
            case name:
                return known[name]


def _known(sent: Outgoing) -> dict[str, bytes]:
    moment = datetime.fromtimestamp(int(sent.now), UTC)
    return {
        "method": sent.method.encode(),
        "host": sent.host,
        "path": sent.path.encode(),
        "query": (sent.query or "").encode(),
        "nonce": sent.nonce.encode(),
        "timestamp": b"%d" % int(sent.now),
        "timestamp_ms": b"%d" % int(sent.now * 1000),
        "timestamp_rfc3339": moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
    }


def _with_host(sent: Outgoing) -> list[Field]:
    return [(b"host", sent.host), *(each for each in sent.fields if each[0].lower() != b"host")]


def _filled(text: SignatureText, known: dict[str, bytes]) -> bytes:
    return b"".join(known[part.name] if isinstance(part, Variable) else part.encode() for part in text)


def _key(form: KeyForm, value: str) -> bytes:
    """The bytes of the key. Raises ValueError without any part of the value."""
    try:
        match form:
            case KeyForm.TEXT:
                return value.encode()
            case KeyForm.BASE64:
                return base64.b64decode(value, validate=True)
            case KeyForm.HEX:
                return bytes.fromhex(value)
    except (ValueError, binascii.Error):
        raise ValueError(f"it is no {form.value}") from None

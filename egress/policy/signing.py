"""How a rule has requests signed: the scheme, the secret, and what a signature by template is made of. Values only.

The text of a template is literal pieces and variables. A variable of a request stands for what goes up, after
rewrites and header changes, never for what the client sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class HashName(StrEnum):
    """The hash below an HMAC (RFC 2104)."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    SHA1 = "sha1"


class SignatureEncoding(StrEnum):
    """How the bytes of a signature are written."""

    HEX = "hex"
    BASE64 = "base64"


class KeyForm(StrEnum):
    """What the text of a secret says of the key: the text itself, or bytes that it encodes."""

    TEXT = "text"
    BASE64 = "base64"
    HEX = "hex"


# The variables that a message may hold; `header:NAME` besides.
MESSAGE_VARIABLES: Final = (
    *("method", "host", "path", "query", "body", "body_sha256", "nonce"),
    *("timestamp", "timestamp_ms", "timestamp_rfc3339"),
)
# Those that a header may hold.
VALUE_VARIABLES: Final = ("signature", "nonce", "timestamp", "timestamp_ms", "timestamp_rfc3339")
OF_THE_BODY: Final = frozenset({"body", "body_sha256"})


@dataclass(frozen=True, slots=True)
class Variable:
    """The place of a variable in a template. `header`, in lower case, is set for `header:NAME` alone."""

    name: str
    header: str = ""


type SignatureText = tuple[str | Variable, ...]


@dataclass(frozen=True, slots=True)
class SigV4:
    """AWS Signature Version 4. What is not stated is taken from the client's own signature, else from the host."""

    secret: str
    region: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """An HMAC of `message`, in `header` as `value` says. `also`: further headers, which carry a nonce or a time."""

    secret: str
    message: SignatureText
    header: str
    value: SignatureText = (Variable("signature"),)
    algorithm: HashName = HashName.SHA256
    encoding: SignatureEncoding = SignatureEncoding.HEX
    key: KeyForm = KeyForm.TEXT
    also: tuple[tuple[str, SignatureText], ...] = ()

    @property
    def reads_body(self) -> bool:
        """Whether the message holds the body, which then has to be whole before a byte of the request leaves."""
        return any(isinstance(part, Variable) and part.name in OF_THE_BODY for part in self.message)


type Signing = SigV4 | HmacScheme

# The headers that a signature takes over: the client's own go nowhere, bound or not.
_AWS_HEADERS: Final = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256")


def signed_headers(signing: Signing) -> tuple[str, ...]:
    """The headers that are the proxy's where a rule signs."""
    if isinstance(signing, SigV4):
        return _AWS_HEADERS
    return (signing.header, *(name for name, _ in signing.also))

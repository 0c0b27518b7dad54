"""JSON Web Tokens that sign in to a service (RFC 7519), by RS256 alone (RFC 7518, section 3.3)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from egress.credentials.providers.asking import Asking
    from egress.credentials.secret import Secret

_FEWEST_BITS = 2048


def signed(asking: Asking, claims: Mapping[str, str | int], key: Secret, *, key_id: str | None = None) -> str:
    """A compact JWT. `key` is an RSA key in PEM; its line breaks may be written as escapes."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - only where it is used
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - likewise

    header = {"alg": "RS256", "typ": "JWT"} if key_id is None else {"alg": "RS256", "typ": "JWT", "kid": key_id}
    text = f"{_encoded(_compact(header))}.{_encoded(_compact(claims))}"
    signature = _loaded(asking, key).sign(text.encode(), PKCS1v15(), SHA256())
    return f"{text}.{_encoded(signature)}"


def _loaded(asking: Asking, key: Secret) -> RSAPrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - likewise

    loaded = None
    try:
        loaded = load_pem_private_key(key.reveal().replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Raised below, outside: the library's message is no cause to keep beside a key.
        loaded = None
    if not isinstance(loaded, RSAPrivateKey) or loaded.key_size < _FEWEST_BITS:
        raise asking.error("needs a private key that this is not", "give an RSA key of 2048 bits or more, in PEM")
    return loaded


def _compact(content: Mapping[str, str | int]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

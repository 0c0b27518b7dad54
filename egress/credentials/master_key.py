"""The key of the secret store: 32 random bytes that never show themselves, and what is derived from them.

INVARIANT secret-confinement: the bytes leave this type through `text` alone, for the file that keeps the key.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final, NoReturn, Self, final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from egress.errors import StateError

KEY_BYTES: Final = 32
_ID_BYTES: Final = 16
_LABEL: Final = b"egress secret store 1: "


@final
class MasterKey:
    """A key, which can be neither printed, copied nor pickled. Two are equal if their `key_id` is."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a key has 32 bytes")
        self._key = key
        # Says which key a store was written with, and nothing of the key: HKDF is one-way (RFC 5869).
        self.key_id = self.derive(b"id", b"", length=_ID_BYTES)

    @classmethod
    def make(cls) -> Self:
        """A new key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def of_text(cls, text: str, source: str) -> Self:
        """The key that is written as base64. Raises StateError, which names `source` and quotes nothing."""
        try:
            key = base64.b64decode(text.strip().encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            key = b""
        if len(key) != KEY_BYTES:
            hint = "it is 32 random bytes in base64, as `openssl rand -base64 32` prints them"
            raise StateError(f"{source} holds no key for the secret store", hint=hint)
        return cls(key)

    def text(self) -> str:
        """The key itself, as base64. Only for the file that keeps it."""
        return base64.b64encode(self._key).decode("ascii")

    def derive(self, purpose: bytes, salt: bytes, *, length: int = KEY_BYTES) -> bytes:
        """A key for one purpose, by HKDF with SHA-256 (RFC 5869): none tells of the others, or of this key."""
        return HKDF(SHA256(), length, salt, _LABEL + purpose).derive(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterKey) and self.key_id == other.key_id

    def __hash__(self) -> int:
        return hash(self.key_id)

    def __repr__(self) -> str:
        return "<master key>"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a key can be neither copied nor pickled")

    __reduce__ = _refuse
    __reduce_ex__ = _refuse
    __getstate__ = _refuse
    __copy__ = _refuse
    __deepcopy__ = _refuse

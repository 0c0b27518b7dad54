"""How the secret store encrypts its records, and how it notices that one was changed. Pure, but for random numbers.

1. record   AES-256-GCM under a key of its own; what stands beside the ciphertext (store, name, version, binding, times)
            is authenticated with it, so that a row that is swapped, renamed or bound elsewhere does not open
2. seal     an HMAC over all rows together: one that is missing, added, or put back from an older file is noticed
3. neither  knows time: a whole older file, with its own seal, opens
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.credentials.master_key import MasterKey

FORMAT: Final = 1
STORE_ID_BYTES: Final = 16
_NONCE_BYTES: Final = 12  # NIST SP 800-38D, section 8.2.2


class Damaged(Exception):  # noqa: N818 -- never leaves this room: what opens the store says it as a StateError
    """A record or a seal that this key did not make."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it is stored. Times in microseconds since 1970. `binding` is canonical text."""

    name: str
    version: int
    binding: str
    created_us: int
    rotated_us: int
    nonce: bytes
    ciphertext: bytes


class Sealer:
    """Encrypts, opens and seals for one store under one key."""

    def __init__(self, key: MasterKey, store_id: bytes) -> None:
        self._store_id = store_id
        self._key_id = key.key_id
        self._records = AESGCM(key.derive(b"records", store_id))
        self._seals = key.derive(b"seal", store_id)

    def encrypt(  # noqa: PLR0917 -- a record's fields, in their order
        self, name: str, version: int, binding: str, created_us: int, rotated_us: int, value: str
    ) -> Record:
        """The record of a value. The nonce is random: a store is far from 2^32 records."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = Record(name, version, binding, created_us, rotated_us, nonce, b"")
        ciphertext = self._records.encrypt(nonce, value.encode(), self._beside(plain))
        return Record(name, version, binding, created_us, rotated_us, nonce, ciphertext)

    def decrypt(self, record: Record) -> str:
        """The value of a record. Raises Damaged."""
        try:
            return self._records.decrypt(record.nonce, record.ciphertext, self._beside(record)).decode()
        except (InvalidTag, ValueError):
            raise Damaged from None

    def seal(self, records: Iterable[Record]) -> bytes:
        """What holds all rows of the store together, the ciphertexts too: no change waits for its value to be asked."""
        fields: list[bytes | str | int] = [self._key_id]
        for record in sorted(records, key=lambda record: record.name):
            fields += [self._beside(record), record.nonce, record.ciphertext]
        return hmac.digest(self._seals, self._encoded(*fields), sha256)

    def check(self, records: Iterable[Record], seal: bytes) -> None:
        """Raise Damaged unless these are the rows that were sealed."""
        if not hmac.compare_digest(self.seal(records), seal):
            raise Damaged

    def _beside(self, record: Record) -> bytes:
        return self._encoded(record.name, record.version, record.binding, record.created_us, record.rotated_us)

    def _encoded(self, *fields: bytes | str | int) -> bytes:
        """Every field behind its length: no two lists of fields read the same."""
        out = bytearray()
        for field in (FORMAT, self._store_id, *fields):
            data = field if isinstance(field, bytes) else str(field).encode()
            out += len(data).to_bytes(8) + data
        return bytes(out)

"""The key that signs checkpoints of the record: Ed25519, made on first use, kept beside the record like a secret.

Whoever can read the key can sign a record of their own making: what a signature proves is that the key's holder made
the checkpoint, and so that who changed the file later did not have it. INVARIANT: the key's bytes leave this module as
signatures alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from egress.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_NAME = "audit-key.pem"
PUBLIC_NAME = "audit-key.pub.pem"
_MOST_BYTES = 4096
_RAW_BYTES = 32


class Signer:
    """Signs for the writer. `public` is the key's 32 bytes that anyone may have, `fingerprint` names it."""

    __slots__ = ("_key", "fingerprint", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        self.fingerprint = fingerprint_of(self.public)

    def __repr__(self) -> str:
        return f"<Signer {self.fingerprint}>"

    @classmethod
    def load_or_create(cls, folder: Path) -> Self:
        """The key in `folder`, made there with mode 0600 if there is none. Raises AuditError."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 -- 30 ms

        path = folder / KEY_NAME
        try:
            data = _read(path) or _create(path)
        except OSError as error:
            raise AuditError(f"the key {path} cannot be used: {error.strerror}", hint="make it readable") from error
        key = _parsed(data, path)
        if not isinstance(key, Ed25519PrivateKey):
            raise AuditError(f"{path} is no Ed25519 key", hint=_NEW)
        signer = cls(key)
        _write_public(folder / PUBLIC_NAME, signer.public)
        return signer

    def sign(self, text: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(text)


def is_signed(public: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the holder of the key signed the text."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 -- as above

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint_of(public: bytes) -> str:
    """A name for a key: the first half of its SHA-256."""
    return sha256(public).hexdigest()[:32]


def read_public(path: Path) -> bytes:
    """The 32 bytes of a public key in PEM. Raises AuditError."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 -- as above

    try:
        with path.open("rb") as file:
            key = serialization.load_pem_public_key(file.read(_MOST_BYTES))
    except OSError as error:
        raise AuditError(f"the key {path} cannot be read: {error.strerror}") from error
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise AuditError(f"{path} holds no public Ed25519 key in PEM", hint=f"name the proxy's {PUBLIC_NAME}")
    return key.public_bytes_raw()


_NEW = "move it away; a new one is made, and checkpoints from then on are signed with that"


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in {os.geteuid(), 0}:
            raise AuditError(f"{path} is no regular file of this user", hint=_NEW)
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise AuditError(f"{path} is open to other users", hint=f"chmod 600 {path}")
        return file.read(_MOST_BYTES)


def _create(path: Path) -> bytes:
    """A new key, whole at once, or the one that another process made meanwhile."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 -- as above

    data = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        unfinished.unlink()
    return _read(path) or data


def _parsed(data: bytes, path: Path) -> object:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- as above

    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        # `from None`: a parser's message may quote what it read.
        raise AuditError(f"{path} holds no readable private key", hint=_NEW) from None


def _write_public(path: Path, public: bytes) -> None:
    """The public key beside the private one, for reviewers. Checkpoints do not depend on it."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 -- as above

    pem = Ed25519PublicKey.from_public_bytes(public).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with contextlib.suppress(OSError):
        if not path.is_file() or path.read_bytes() != pem:
            unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
            unfinished.write_bytes(pem)
            unfinished.replace(path)

"""The CA that the proxy's clients trust: kept in a folder, made on first use, signing a leaf for each inspected host.

The folder holds `ca-key.pem` (0600) and `ca.pem` (0644). The order in which they appear makes creation safe against
a crash at any moment and against several processes that start at once:

1. a lock on the folder, so that one process creates and the others find what it made;
2. `ca.pem.new`, the finished certificate under another name;
3. `ca-key.pem`;
4. `ca.pem.new` becomes `ca.pem`. From here on the CA exists.

A start that finds the state after 3 does 4; one that finds the state after 2 begins anew.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from egress.certs import files
from egress.certs.mint import Leaf, make_authority, make_leaf, new_key
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_NAME = "ca-key.pem"
CERTIFICATE_NAME = "ca.pem"
_UNFINISHED_NAME = "ca.pem.new"
_LOCK_NAME = ".lock"
# About 1.5 MB. A sandbox that walks through the names of a wildcard rule displaces leaves, it does not add memory.
MAX_LEAVES = 1024
_NEW_CA = "restore it from a backup, or move the folder away to get a new CA (clients must then trust that one)"

_NONE_YET = "`egress run` makes one on first use, `egress ca path --create` at once"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """The CA with its key in memory. Thread-safe; one leaf key a process, and never the CA's own.

    Made by `load_or_create` or `load`. A process that forks afterwards shares the key with its children.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        path: Path,
        *,
        clock: Callable[[], datetime] = _utc_now,
        max_leaves: int = MAX_LEAVES,
    ) -> None:
        self.certificate = certificate
        self.certificate_path = path
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._key = key
        self._leaf_key = new_key()
        self._clock = clock
        self._max_leaves = max_leaves
        self._leaves: OrderedDict[str, Leaf] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Authority {self.certificate.subject.rfc4514_string()}>"

    @classmethod
    def load_or_create(cls, ca_dir: Path, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """The CA in `ca_dir`, made there if there is none. Raises `StateError` with a hint if it must not be used."""
        try:
            with files.opened_folder(ca_dir, create=True) as folder:
                # A finished CA is read without the lock: its folder may be mounted read-only.
                if not (files.exists(folder, KEY_NAME) and files.exists(folder, CERTIFICATE_NAME)):
                    with files.locked(folder, _LOCK_NAME):
                        _finish_or_create(folder, ca_dir, clock())
                return cls._read(folder, ca_dir, clock)
        except OSError as error:
            raise StateError(
                f"cannot make a CA in `{ca_dir}`: {error.strerror}", hint="name a folder that can be written"
            ) from error

    @classmethod
    def load(cls, ca_dir: Path, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """The CA in `ca_dir`; never makes one. Raises `StateError` if there is none or it must not be used."""
        try:
            with files.opened_folder(ca_dir, create=False) as folder:
                if not files.exists(folder, KEY_NAME) and not files.exists(folder, CERTIFICATE_NAME):
                    raise StateError(f"no CA in `{ca_dir}`", hint=_NONE_YET)
                return cls._read(folder, ca_dir, clock)
        except FileNotFoundError as error:
            raise StateError(f"no CA in `{ca_dir}`", hint=_NONE_YET) from error

    @classmethod
    def _read(cls, folder: int, ca_dir: Path, clock: Callable[[], datetime]) -> Self:
        certificate_path, key_path = ca_dir / CERTIFICATE_NAME, ca_dir / KEY_NAME
        for path, other in ((certificate_path, key_path), (key_path, certificate_path)):
            if not files.exists(folder, path.name):
                raise StateError(f"`{path}` is missing beside `{other.name}`", hint=_NEW_CA)
        key = _parse_key(files.read_private(folder, key_path), key_path)
        certificate = _parse_certificate(files.read_public(folder, certificate_path), certificate_path)
        _check(certificate, key, certificate_path, clock())
        return cls(certificate, key, certificate_path, clock=clock)

    def leaf(self, host: str) -> Leaf:
        """A leaf for `host` (canonical name, or address without brackets), with half of its life or more before it.

        Raises `ValueError` for a host that no certificate can name, `StateError` once the CA has expired.
        """
        now = self._clock()
        with self._lock:
            found = self._leaves.get(host)
            if found is not None and now < found.renew_after:
                self._leaves.move_to_end(host)
                return found
        if now >= self.certificate.not_valid_after_utc:
            raise StateError(f"the CA `{self.certificate_path}` has expired", hint=_NEW_CA)
        # Signed outside the lock: two threads may both sign for a new host, and both certificates are good.
        made = make_leaf(host, self._leaf_key, authority=self.certificate, authority_key=self._key, now=now)
        with self._lock:
            self._leaves[host] = made
            self._leaves.move_to_end(host)
            while len(self._leaves) > self._max_leaves:
                self._leaves.popitem(last=False)
        return made


def _finish_or_create(folder: int, ca_dir: Path, now: datetime) -> None:
    has_key, has_certificate = files.exists(folder, KEY_NAME), files.exists(folder, CERTIFICATE_NAME)
    if has_key and not has_certificate and files.exists(folder, _UNFINISHED_NAME):
        unfinished = ca_dir / _UNFINISHED_NAME
        key = _parse_key(files.read_private(folder, ca_dir / KEY_NAME), ca_dir / KEY_NAME)
        _check(_parse_certificate(files.read_public(folder, unfinished), unfinished), key, unfinished, now)
        os.rename(_UNFINISHED_NAME, CERTIFICATE_NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        return
    if has_key or has_certificate:
        return  # Whole: another process made it meanwhile. Half: the reader says what is missing.
    key = new_key()
    certificate = make_authority(key, machine=socket.gethostname(), now=now)
    files.replace(folder, _UNFINISHED_NAME, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.replace(folder, KEY_NAME, key_pem, mode=0o600)
    os.rename(_UNFINISHED_NAME, CERTIFICATE_NAME, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _parse_key(data: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: a parser's message may quote what it read.
        raise StateError(f"`{path}` holds no readable private key", hint=_NEW_CA) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StateError(f"`{path}` is no EC key on P-256", hint=_NEW_CA)
    return key


def _parse_certificate(data: bytes, path: Path) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise StateError(f"`{path}` holds no readable certificate", hint=_NEW_CA) from error
    if len(certificates) != 1:
        raise StateError(f"`{path}` holds {len(certificates)} certificates", hint="leave only the CA's own there")
    return certificates[0]


def _check(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, path: Path, now: datetime) -> None:
    if certificate.public_key() != key.public_key():
        raise StateError(f"`{path}` does not belong to `{KEY_NAME}`", hint=_NEW_CA)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise StateError(f"`{path}` is no CA certificate", hint=_NEW_CA) from error
    if not constraints.ca or not usage.key_cert_sign:
        raise StateError(f"`{path}` is no CA certificate", hint=_NEW_CA)
    if now >= certificate.not_valid_after_utc:
        raise StateError(f"`{path}` expired on {certificate.not_valid_after_utc:%Y-%m-%d}", hint=_NEW_CA)
    if now < certificate.not_valid_before_utc:
        raise StateError(
            f"`{path}` is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}", hint="set this machine's clock"
        )

"""The CA's folder: made on first use, replaced on purpose, whole after a crash at any moment.

It holds `ca-key.pem` (0600) and `ca.pem` (0644). The order in which they appear makes creation safe against a crash,
and against several processes that start at once:

1. a lock on the folder, so that one process writes and the others find what it made;
2. `ca.pem.new`, the finished certificate under another name;
3. `ca-key.pem`, at once: from here on the CA is the new one;
4. `ca.pem.new` becomes `ca.pem`.

A reader that finds the state after 3 takes `ca.pem.new` for the certificate, and one that may write does 4; one that
finds the state after 2 goes by what was there before. A rotation takes the same steps, after it has put the
certificate of today among the retired ones (`ca-retired.pem`). A CA that is prepared lies in the folder `next`, with
its key, until a rotation takes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from egress.certs import files
from egress.certs.constraints import NameConstraints
from egress.certs.mint import UNCONSTRAINED, make_authority, new_key
from egress.certs.retired import RETIRED_NAME, Retired, format_retired, parse_retired, still_trusted
from egress.errors import StateError

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path


KEY_NAME: Final = "ca-key.pem"
CERTIFICATE_NAME: Final = "ca.pem"
NEXT_NAME: Final = "next"
NEW_CA: Final = "restore it from a backup, or move the folder away to get a new CA (clients must then trust that one)"
_UNFINISHED_NAME: Final = "ca.pem.new"
_LOCK_NAME: Final = ".lock"
_NONE_YET: Final = "`egress run` makes one on first use, `egress ca init` at once"
# A rotation between the reading of the key and that of the certificate: they are read again.
_READS: Final = 3


@dataclass(frozen=True, slots=True, repr=False)
class Held:
    """What the folder holds. `following`: the certificate of the CA that is prepared, if one is."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    retired: tuple[Retired, ...] = ()
    following: x509.Certificate | None = None


def read(ca_dir: Path, now: datetime) -> Held:
    """What is there; nothing is made. Raises `StateError` with a hint if there is none, or it must not be used."""
    try:
        with files.opened_folder(ca_dir, create=False) as folder:
            if not files.exists(folder, KEY_NAME) and not files.exists(folder, CERTIFICATE_NAME):
                raise StateError(f"no CA in `{ca_dir}`", hint=_NONE_YET)
            return _read(folder, ca_dir, now)
    except FileNotFoundError as error:
        raise StateError(f"no CA in `{ca_dir}`", hint=_NONE_YET) from error


def read_or_create(ca_dir: Path, now: datetime, constraints: NameConstraints = UNCONSTRAINED) -> Held:
    """What is there, or a new CA. Raises `StateError` with a hint if it must not be used or cannot be made."""
    try:
        with files.opened_folder(ca_dir, create=True) as folder:
            whole = files.exists(folder, KEY_NAME) and files.exists(folder, CERTIFICATE_NAME)
            # A CA that is there is read without the lock: its folder may be mounted read-only.
            if not whole:
                with files.locked(folder, _LOCK_NAME):
                    _finish_or_create(folder, ca_dir, now, constraints)
            elif files.exists(folder, _UNFINISHED_NAME):
                with contextlib.suppress(OSError), files.locked(folder, _LOCK_NAME):
                    _finish(folder, ca_dir)
            return _read(folder, ca_dir, now)
    except OSError as error:
        raise _unwritable(ca_dir, error) from error


def prepare(ca_dir: Path, now: datetime, constraints: NameConstraints) -> Held:
    """Make the CA that the next rotation takes, unless it is there; its certificate is trusted from now on."""
    read(ca_dir, now)
    prepared = read_or_create(ca_dir / NEXT_NAME, now, constraints)
    _check_constraints(prepared.certificate, constraints, ca_dir)
    return read(ca_dir, now)


def rotate(ca_dir: Path, now: datetime, *, keep: timedelta, constraints: NameConstraints | None) -> Held:
    """Put another CA in the place of this one: the one that is prepared, else a new one.

    The certificate of today stays trusted for `keep`, its key is destroyed. `constraints` None: those of the one that
    is prepared, else of the CA of today; others than those of the one that is prepared are refused.
    """
    read(ca_dir, now)
    try:
        with files.opened_folder(ca_dir, create=False) as folder, files.locked(folder, _LOCK_NAME):
            # Whoever waited for the lock rotates what the other left.
            _finish(folder, ca_dir)
            today = _read(folder, ca_dir, now)
            certificate, key = _following(ca_dir, now, today, constraints)
            until = min(now + keep, today.certificate.not_valid_after_utc)
            kept = still_trusted([*today.retired, Retired(today.certificate, until)], now)
            files.replace(folder, RETIRED_NAME, format_retired(kept), mode=0o644)
            _write(folder, certificate, key)
            shutil.rmtree(NEXT_NAME, ignore_errors=True, dir_fd=folder)
            return _read(folder, ca_dir, now)
    except OSError as error:
        raise _unwritable(ca_dir, error) from error


def _following(
    ca_dir: Path, now: datetime, today: Held, constraints: NameConstraints | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if today.following is not None:
        prepared = read(ca_dir / NEXT_NAME, now)
        if constraints is not None:
            _check_constraints(prepared.certificate, constraints, ca_dir)
        return prepared.certificate, prepared.key
    key = new_key()
    own = NameConstraints.of(today.certificate) if constraints is None else constraints
    return make_authority(key, machine=socket.gethostname(), now=now, constraints=own), key


def _check_constraints(prepared: x509.Certificate, wanted: NameConstraints, ca_dir: Path) -> None:
    found = NameConstraints.of(prepared)
    if found != wanted:
        told = f"constrained to {found}" if found else "not constrained"
        raise StateError(
            f"the CA that is prepared is {told}",
            hint=f"`egress ca rotate` without constraints takes it, or remove `{ca_dir / NEXT_NAME}`",
        )


def _finish_or_create(folder: int, ca_dir: Path, now: datetime, constraints: NameConstraints) -> None:
    _finish(folder, ca_dir)
    if files.exists(folder, KEY_NAME) or files.exists(folder, CERTIFICATE_NAME):
        return  # Whole: another process made it meanwhile. Half: the reader says what is missing.
    key = new_key()
    _write(folder, make_authority(key, machine=socket.gethostname(), now=now, constraints=constraints), key)


def _finish(folder: int, ca_dir: Path) -> None:
    """Do step 4, if that is what is left to do. Under the lock."""
    if not (files.exists(folder, KEY_NAME) and files.exists(folder, _UNFINISHED_NAME)):
        return
    key = _parse_key(files.read_private(folder, ca_dir / KEY_NAME), ca_dir / KEY_NAME)
    unfinished = ca_dir / _UNFINISHED_NAME
    # Of another key: a rotation that ended before its step 3.
    if _parse_certificate(files.read_public(folder, unfinished), unfinished).public_key() == key.public_key():
        os.rename(_UNFINISHED_NAME, CERTIFICATE_NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def _write(folder: int, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    files.replace(folder, _UNFINISHED_NAME, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.replace(folder, KEY_NAME, key_pem, mode=0o600)
    os.rename(_UNFINISHED_NAME, CERTIFICATE_NAME, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _read(folder: int, ca_dir: Path, now: datetime) -> Held:
    for _ in range(_READS - 1):
        with contextlib.suppress(StateError):
            return _read_once(folder, ca_dir, now)
    return _read_once(folder, ca_dir, now)


def _read_once(folder: int, ca_dir: Path, now: datetime) -> Held:
    names = [name for name in (CERTIFICATE_NAME, _UNFINISHED_NAME) if files.exists(folder, name)]
    for missing, other, there in (
        (CERTIFICATE_NAME, KEY_NAME, bool(names)),
        (KEY_NAME, CERTIFICATE_NAME, files.exists(folder, KEY_NAME)),
    ):
        if not there:
            raise StateError(f"`{ca_dir / missing}` is missing beside `{other}`", hint=NEW_CA)
    key = _parse_key(files.read_private(folder, ca_dir / KEY_NAME), ca_dir / KEY_NAME)
    found = {name: _parse_certificate(files.read_public(folder, ca_dir / name), ca_dir / name) for name in names}
    own = next((name for name in names if found[name].public_key() == key.public_key()), names[0])
    _check(found[own], key, ca_dir / own, now)
    retired = ca_dir / RETIRED_NAME
    listed = files.read_public(folder, retired) if files.exists(folder, RETIRED_NAME) else b""
    return Held(found[own], key, parse_retired(listed, retired), _read_following(ca_dir, now, found[own]))


def _read_following(ca_dir: Path, now: datetime, today: x509.Certificate) -> x509.Certificate | None:
    try:
        with files.opened_folder(ca_dir / NEXT_NAME, create=False) as folder:
            if not files.exists(folder, KEY_NAME):
                return None  # Its making was interrupted.
            following = _read_once(folder, ca_dir / NEXT_NAME, now).certificate
    except FileNotFoundError:
        return None
    # A crash after a rotation took it, before the folder was removed: it is the CA of today.
    return None if following == today else following


def _parse_key(data: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: a parser's message may quote what it read.
        raise StateError(f"`{path}` holds no readable private key", hint=NEW_CA) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StateError(f"`{path}` is no EC key on P-256", hint=NEW_CA)
    return key


def _parse_certificate(data: bytes, path: Path) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise StateError(f"`{path}` holds no readable certificate", hint=NEW_CA) from error
    if len(certificates) != 1:
        raise StateError(f"`{path}` holds {len(certificates)} certificates", hint="leave only the CA's own there")
    return certificates[0]


def _check(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, path: Path, now: datetime) -> None:
    if certificate.public_key() != key.public_key():
        raise StateError(f"`{path}` does not belong to `{KEY_NAME}`", hint=NEW_CA)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise StateError(f"`{path}` is no CA certificate", hint=NEW_CA) from error
    if not constraints.ca or not usage.key_cert_sign:
        raise StateError(f"`{path}` is no CA certificate", hint=NEW_CA)
    if now >= certificate.not_valid_after_utc:
        raise StateError(f"`{path}` expired on {certificate.not_valid_after_utc:%Y-%m-%d}", hint=NEW_CA)
    if now < certificate.not_valid_before_utc:
        raise StateError(
            f"`{path}` is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}", hint="set this machine's clock"
        )


def _unwritable(ca_dir: Path, error: OSError) -> StateError:
    return StateError(f"cannot make a CA in `{ca_dir}`: {error.strerror}", hint="name a folder that can be written")

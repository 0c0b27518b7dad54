"""Writes trust bundles: the roots that we trust upstream, and the file that clients of the proxy trust.

Both start from the system's roots (certifi's where a system has none), take the operator's own files, and lose the
distrusted. The environment (SSL_CERT_FILE and its like) is not asked: inside a sandbox it names our own client
bundle, and trusting ourselves upstream would let the proxy be chained to itself unnoticed.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from egress.certs import files
from egress.certs.distrust import distrusted
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Where systems keep their roots in one file, in the order in which they are tried.
SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Alpine, Arch, Gentoo
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # Fedora, RHEL
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # older Fedora, RHEL, Amazon Linux
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # macOS, BSDs
)
# The clients' bundle, in the state folder.
BUNDLE_NAME = "ca-bundle.pem"
_MAX_BUNDLE = 8 * 1024 * 1024
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_BEGIN = b"-----BEGIN CERTIFICATE-----"


def write_bundle(path: Path, authority_pem: bytes, extra: Sequence[Path] = ()) -> None:
    """Write what clients trust: the trusted roots, `extra`, and our CA (first). PEM, mode 0644, replaced at once.

    Raises `StateError` that names the file if one of `extra` cannot be used or `path` cannot be written.
    """
    write_file(path, bundle_pem(authority_pem, extra))


def bundle_pem(authority_pem: bytes, extra: Sequence[Path] = ()) -> bytes:
    """What clients trust, as PEM: the same bytes for the same roots. Raises `StateError`."""
    return _pem(trusted_by_clients(authority_pem, extra))


def trusted_by_clients(authority_pem: bytes, extra: Sequence[Path] = ()) -> list[x509.Certificate]:
    """Our own certificates first, then the trusted roots and `extra`; each once. Raises `StateError`."""
    return _unique([*x509.load_pem_x509_certificates(authority_pem), *_trusted_roots(extra)])


def write_roots(path: Path, extra: Sequence[Path] = ()) -> None:
    """Write what we trust upstream: the trusted roots and `extra`. PEM, mode 0644, replaced at once.

    Raises `StateError` that names the file if one of `extra` cannot be used or `path` cannot be written.
    """
    write_file(path, _pem(_unique(_trusted_roots(extra))))


def _trusted_roots(extra: Sequence[Path]) -> list[x509.Certificate]:
    roots = [*_system_roots(SYSTEM_BUNDLES), *(root for path in extra for root in _read_extra(path))]
    # The operator's files are held to the table too: one of them may be a whole system bundle.
    return [root for root in roots if distrusted(root) is None]


@cache
def _system_roots(bundles: tuple[Path, ...]) -> list[x509.Certificate]:
    """Read once a process: both bundles hold them, and a changed system takes effect at the next start."""
    for path in (*bundles, Path(certifi.where())):
        try:
            blocks = _BLOCK.findall(path.read_bytes())
        except OSError:
            continue
        # A root that cannot be parsed cannot be judged, and is left out.
        roots = [root for block in blocks if (root := _parse(block)) is not None]
        if roots:
            return roots
    raise StateError("no trusted roots on this system", hint="install the system's ca-certificates package")


def _read_extra(path: Path) -> list[x509.Certificate]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BUNDLE + 1)
    except OSError as error:
        raise StateError(
            f"cannot read `{path}`: {error.strerror}", hint="name a PEM file with --upstream-ca"
        ) from error
    if len(data) > _MAX_BUNDLE:
        raise StateError(f"`{path}` is larger than {_MAX_BUNDLE // 1024**2} MiB", hint="name a PEM file of roots")
    blocks = _BLOCK.findall(data)
    if not blocks:
        raise StateError(
            f"`{path}` holds no PEM certificate", hint="convert DER with `openssl x509 -inform der -in FILE -out PEM`"
        )
    roots = [_parse(block) for block in blocks]
    whole = [root for root in roots if root is not None]
    # A block that is cut off or damaged is an error, not a root less: the operator counts on it.
    if len(whole) != len(blocks) or data.count(_BEGIN) != len(blocks):
        raise StateError(f"`{path}` holds a damaged certificate", hint="export the certificate again, as PEM")
    return whole


def _parse(block: bytes) -> x509.Certificate | None:
    with warnings.catch_warnings():
        # Some old public roots have a serial number of zero, which is worth no warning to our users.
        warnings.simplefilter("ignore")
        try:
            root = x509.load_pem_x509_certificate(block)
            _ = root.subject, root.extensions
        except ValueError:
            return None
    return root


def _unique(roots: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    return list({root.fingerprint(hashes.SHA256()): root for root in roots}.values())


def _pem(roots: Iterable[x509.Certificate]) -> bytes:
    return b"".join(root.public_bytes(serialization.Encoding.PEM) for root in roots)


def write_file(path: Path, data: bytes) -> None:
    """Put what everybody may read at `path`, at once, mode 0644. Raises `StateError`."""
    try:
        files.write_public(path, data)
    except OSError as error:
        raise StateError(
            f"cannot write `{path}`: {error.strerror}", hint="name a folder that can be written"
        ) from error

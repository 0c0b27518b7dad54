"""Trust stores in the form of PKCS #12, for programs that read no PEM: certificates alone, never a key.

Java knows a trusted certificate by an attribute of Oracle's (2.16.840.1.113894.746875.1.1), which these carry; without
it, Java takes such a file for an empty one. The password protects nothing, since certificates are public: it is there
because Java asks for one, and `changeit` is what Java's own stores have.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from egress.certs.bundle import trusted_by_clients

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

DEFAULT_PASSWORD: Final = "changeit"  # noqa: S105 -- the password that everybody knows


def own_store(authority_pem: bytes, password: str) -> bytes:
    """A store of our own certificates."""
    return _store(x509.load_pem_x509_certificates(authority_pem), password)


def full_store(authority_pem: bytes, password: str, extra: Sequence[Path] = ()) -> bytes:
    """A store of what the bundle holds: for `javax.net.ssl.trustStore`, which replaces Java's own roots.

    Raises `StateError` that names the file if one of `extra` cannot be used.
    """
    return _store(trusted_by_clients(authority_pem, extra), password)


def _store(certificates: Iterable[x509.Certificate], password: str) -> bytes:
    entries = [pkcs12.PKCS12Certificate(own, _alias(number, own)) for number, own in enumerate(certificates)]
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        # What Java 8u301, 11.0.12 and later write themselves.
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
    with warnings.catch_warnings():
        # Some old public roots have a serial number of zero, which is worth no warning to our users.
        warnings.simplefilter("ignore")
        return pkcs12.serialize_java_truststore(entries, encryption)


def _alias(number: int, certificate: x509.Certificate) -> bytes:
    """Unique, and lower case: to Java, names that differ in case alone are one."""
    return f"egress-{number:03d}-{certificate.fingerprint(hashes.SHA256()).hex()[:16]}".encode()

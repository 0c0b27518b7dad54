"""Makes certificates: the CA's own and the leaves it signs. No files, no clock: both are given.

The extensions are those that strict verifiers ask for (RFC 5280, as `openssl verify -x509_strict` and Python's
VERIFY_X509_STRICT read it): a critical basicConstraints and keyUsage and a key identifier on the CA, an authority key
identifier, keyUsage and extendedKeyUsage on the leaf.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from egress.certs.constraints import NameConstraints

# Trusting a new CA is work on every client, and expiry protects little here: whoever holds the key also holds the
# host. So the CA outlives the machines it runs on, and is replaced on purpose, never by the calendar.
CA_LIFETIME = timedelta(days=3652)
# Short, because nothing can revoke a leaf.
LEAF_LIFETIME = timedelta(days=7)
# A client whose clock is late by less than this still accepts a certificate made just now.
BACKDATE = timedelta(days=1)
# RFC 5280, appendix A.1: ub-common-name.
MAX_COMMON_NAME = 64
_MAX_NAME = 253
UNCONSTRAINED = NameConstraints()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate for one host, its key, and what to send after it in the handshake.

    `chain` is empty: the only issuer is the root, which a client that trusts us has (RFC 8446, section 4.4.2). From
    `renew_after` on, ask the authority for a new one.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]
    renew_after: datetime

    @property
    def certificate_pem(self) -> bytes:
        """The certificate and its chain, as a server sends them."""
        return b"".join(part.public_bytes(serialization.Encoding.PEM) for part in (self.certificate, *self.chain))


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new EC key on P-256: every client verifies it, and signing costs a quarter of RSA 2048's."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(
    key: ec.EllipticCurvePrivateKey, *, machine: str, now: datetime, constraints: NameConstraints = UNCONSTRAINED
) -> x509.Certificate:
    """A self-signed CA for `key` that can sign leaves and nothing below. `machine` shows in the subject."""
    # The last part tells two CAs of one machine and day apart: clients find an issuer by its subject.
    words = ("Egress CA", _printable(machine)[:32], f"{now:%Y-%m-%d}", secrets.token_hex(3))
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Egress"),
            x509.NameAttribute(NameOID.COMMON_NAME, " ".join(word for word in words if word)),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if constraints:
        builder = builder.add_extension(constraints.extension(), critical=True)
    return builder.sign(key, hashes.SHA256())


def make_leaf(
    host: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> Leaf:
    """A certificate for `host` (a canonical name, or an address without brackets), never valid beyond the CA.

    Raises `ValueError` for a host that no certificate can name.
    """
    name = _general_name(host)
    not_after = min(now + LEAF_LIFETIME, authority.not_valid_after_utc)
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Egress")]
    # No common name for an address: OpenSSL holds `10.0.0.1` there to the constraints for DNS names.
    if len(host) <= MAX_COMMON_NAME and isinstance(name, x509.DNSName):
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATE, authority.not_valid_before_utc))
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_identifier(authority), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Leaf(certificate, key, chain=(), renew_after=now + (not_after - now) / 2)


def authority_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What a leaf names its issuer by: the CA's own key identifier, however that was made (RFC 5280, 4.2.1.1)."""
    try:
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = authority.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("the CA's key is no EC key") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    # A `*` here would make one leaf speak for many hosts.
    if (
        not host
        or len(host) > _MAX_NAME
        or not host.isascii()
        or any(c in "*/:@ " or not c.isprintable() for c in host)
    ):
        raise ValueError("not a canonical host")
    return x509.DNSName(host)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in ".-"))

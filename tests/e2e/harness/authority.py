"""The test CA and the leaf certificates of the origins: good ones, and bad ones on request."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

_DAY = dt.timedelta(days=1)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(eq=False)
class TestAuthority:
    """A private CA in `folder`: `ca_file` is what the proxy gets as --upstream-ca."""

    __test__ = False

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = dt.datetime.now(dt.UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(_name("Egress test CA"))
            .issuer_name(_name("Egress test CA"))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.ca_file = self.folder / "test-ca.pem"
        self.ca_file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, *names: str, expired: bool = False, self_signed: bool = False) -> tuple[Path, Path]:
        """The certificate and key files of a new leaf for `names` (host names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        serial = x509.random_serial_number()
        signer, issuer = (key, _name(names[0])) if self_signed else (self.key, self.certificate.subject)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - 10 * _DAY)
            .not_valid_after(now - _DAY if expired else now + 20 * _DAY)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        certificate_file, key_file = self.folder / f"{serial:x}.pem", self.folder / f"{serial:x}.key"
        certificate_file.write_bytes(leaf.public_bytes(Encoding.PEM))
        key_file.write_bytes(_pem(key))
        return certificate_file, key_file

    @functools.cache  # noqa: B019 -- an authority lives as long as the run
    def issue_once(self, name: str) -> tuple[Path, Path]:
        """The files of the one leaf for `name` that is made for whoever asks."""
        return self.issue(name)

    @functools.cache  # noqa: B019 -- likewise
    def server_context(self, name: str, alpn: tuple[str, ...] = ("http/1.1",), fault: str = "") -> ssl.SSLContext:
        """A server's TLS for `name`; `fault` is one of `expired`, `self-signed`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = self.issue(name, expired=fault == "expired", self_signed=fault == "self-signed")
        context.load_cert_chain(*files)
        context.set_alpn_protocols(list(alpn))
        return context


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

"""PKCS #12 trust stores: certificates that Java and OpenSSL read, and never a key."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from egress.certs import DEFAULT_PASSWORD, Authority, bundle_pem, full_store, own_store

if TYPE_CHECKING:
    from pathlib import Path

# Some old public roots have a serial number of zero.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority.load_or_create(tmp_path / "ca")


def certificates(store: bytes, password: str) -> list[x509.Certificate]:
    """Those of a store, which holds nothing else."""
    found = pkcs12.load_pkcs12(store, password.encode())
    assert found.key is None
    assert found.cert is None
    return [own.certificate for own in found.additional_certs]


def test_the_store_is_the_certificate_alone(authority: Authority) -> None:
    """No key, under the password that was given."""
    assert certificates(own_store(authority.trusted_pem, "a password"), "a password") == [authority.certificate]
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_pkcs12(own_store(authority.trusted_pem, "a password"), b"another")


def test_the_full_store_holds_what_the_bundle_holds(authority: Authority, tmp_path: Path) -> None:
    """The public roots, the operator's, and ours."""
    other = Authority.load_or_create(tmp_path / "other")
    extra = [other.certificate_path]
    found = certificates(full_store(authority.trusted_pem, DEFAULT_PASSWORD, extra), DEFAULT_PASSWORD)
    assert found == x509.load_pem_x509_certificates(bundle_pem(authority.trusted_pem, extra))
    assert {authority.certificate, other.certificate} < set(found)


def test_openssl_finds_certificates_and_no_key(authority: Authority, tmp_path: Path) -> None:
    """`openssl pkcs12` lists every bag of the file."""
    path = tmp_path / "egress.p12"
    path.write_bytes(own_store(authority.trusted_pem, DEFAULT_PASSWORD))
    command = ["openssl", "pkcs12", "-in", path, "-passin", f"pass:{DEFAULT_PASSWORD}", "-info", "-nodes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in done.stdout
    bags = [line for line in done.stderr.splitlines() if line.endswith(" bag") or "Keybag" in line]
    assert bags == ["Certificate bag"]


def test_java_is_told_that_each_is_trusted(authority: Authority, tmp_path: Path) -> None:
    """By Oracle's attribute, without which Java finds an empty store; by keytool itself where there is one."""
    store = own_store(authority.trusted_pem, DEFAULT_PASSWORD)
    path = tmp_path / "egress.p12"
    path.write_bytes(store)
    command = ["openssl", "pkcs12", "-in", path, "-passin", f"pass:{DEFAULT_PASSWORD}", "-nokeys"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2.16.840.1.113894.746875.1.1" in done.stdout
    if shutil.which("keytool") is not None:
        listed = ["keytool", "-list", "-keystore", str(path), "-storepass", DEFAULT_PASSWORD]
        assert "trustedCertEntry" in subprocess.run(listed, capture_output=True, text=True, check=True).stdout


def test_the_bundle_is_the_same_for_the_same_roots(authority: Authority) -> None:
    """An image that is built again does not change for it."""
    assert bundle_pem(authority.trusted_pem) == bundle_pem(authority.trusted_pem)

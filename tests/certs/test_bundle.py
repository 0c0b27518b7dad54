"""Trust bundles: what goes in, what stays out, and how they get to disk."""

from __future__ import annotations

import os
import shutil
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from egress.certs import Authority, bundle, write_bundle, write_roots
from egress.certs.distrust import DISTRUSTED, distrusted
from egress.certs.mint import CA_LIFETIME, new_key
from egress.errors import StateError

NOW = datetime.now(UTC)


def root(organisation: str, *, common_name: str = "Root", unit: str | None = None) -> bytes:
    """A self-signed root with this subject, as PEM."""
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    if unit is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    key = new_key()
    builder = x509.CertificateBuilder().subject_name(x509.Name(parts)).issuer_name(x509.Name(parts))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def organisations(path: Path) -> list[str]:
    """The organisation of each root in a bundle, as Python's ssl reads it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return [dict(pair[0] for pair in entry["subject"]).get("organizationName", "") for entry in context.get_ca_certs()]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system bundle of two roots, one of them distrusted."""
    path = tmp_path / "system.pem"
    path.write_bytes(root("Good Trust") + root("eMudhra Technologies Limited"))
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", (tmp_path / "missing.pem", path))
    return path


@pytest.mark.usefixtures("system")
def test_a_client_bundle_holds_system_own_and_extra_roots(tmp_path: Path) -> None:
    """Clients whose variable replaces their roots must still verify tunnels, so the public roots are in it."""
    authority = Authority.load_or_create(tmp_path / "ca")
    (tmp_path / "corp.pem").write_bytes(root("Corp"))
    write_bundle(tmp_path / "out" / "bundle.pem", authority.certificate_pem, [tmp_path / "corp.pem"])
    assert sorted(organisations(tmp_path / "out" / "bundle.pem")) == ["Corp", "Egress", "Good Trust"]


@pytest.mark.usefixtures("system")
def test_upstream_roots_hold_extra_ones_and_never_our_own(tmp_path: Path) -> None:
    """A proxy that trusts its own CA upstream could be chained to itself unnoticed."""
    Authority.load_or_create(tmp_path / "ca")
    (tmp_path / "corp.pem").write_bytes(root("Corp"))
    write_roots(tmp_path / "roots.pem", [tmp_path / "corp.pem"])
    assert sorted(organisations(tmp_path / "roots.pem")) == ["Corp", "Good Trust"]


def test_distrusted_roots_are_dropped_wherever_they_come_from(tmp_path: Path) -> None:
    """Neither this system's real bundle nor a file that the operator adds brings one of them in."""
    (tmp_path / "extra.pem").write_bytes(root("eMudhra Inc") + root("Corp"))
    write_roots(tmp_path / "roots.pem", [tmp_path / "extra.pem", Path(certifi.where())])
    found = organisations(tmp_path / "roots.pem")
    assert len(found) > 50
    assert "Corp" in found
    assert not [name for name in found if "mudhra" in name.lower() or "emsign" in name.lower()]


@pytest.mark.parametrize(
    ("organisation", "common_name", "unit", "dropped"),
    [
        ("eMudhra Technologies Limited", "Root", None, True),
        ("EMUDHRA INC", "Root", None, True),
        ("Somebody", "emSign Root CA - G1", None, True),
        ("Somebody", "Root", "emSign PKI", True),
        ("Mudhra", "Root", None, False),
        ("Internet Security Research Group", "ISRG Root X1", None, False),
    ],
)
def test_distrust_is_by_operator(organisation: str, common_name: str, unit: str | None, *, dropped: bool) -> None:
    """A re-issued root of the operator is found by its subject; others with a similar word are not."""
    certificate = x509.load_pem_x509_certificate(root(organisation, common_name=common_name, unit=unit))
    assert (distrusted(certificate) is not None) is dropped


def test_every_distrust_has_its_reason() -> None:
    """Nobody takes a root away without saying why."""
    assert all(row.why and row.word == row.word.casefold() for row in DISTRUSTED)


def test_certifi_serves_where_a_system_has_no_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container has no ca-certificates package."""
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate here\n")
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", (tmp_path / "missing.pem", empty))
    write_roots(tmp_path / "roots.pem")
    assert len(organisations(tmp_path / "roots.pem")) > 50


def test_no_roots_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty trust store would fail each handshake with a message that says nothing."""
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", ())
    monkeypatch.setattr(certifi, "where", lambda: str(tmp_path / "missing.pem"))
    with pytest.raises(StateError, match="no trusted roots"):
        write_roots(tmp_path / "roots.pem")
    assert not (tmp_path / "roots.pem").exists()


def bad_files() -> list[tuple[str, bytes | None, str]]:
    """What an operator may name by mistake: what it holds, and what the error says."""
    good = root("Good")
    return [
        ("missing", None, "cannot read"),
        ("empty", b"", "no PEM certificate"),
        ("DER", x509.load_pem_x509_certificate(good).public_bytes(serialization.Encoding.DER), "no PEM certificate"),
        ("key only", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no PEM certificate"),
        ("garbled", good.replace(b"\nMII", b"\nXXX"), "damaged"),
        ("cut off after a whole one", good + good[: len(good) // 2], "damaged"),
        ("one of two garbled", good + good.replace(b"\nMII", b"\nXXX"), "damaged"),
        ("huge", b"x" * (8 * 1024 * 1024 + 1), "larger than"),
    ]


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("row", bad_files(), ids=[row[0] for row in bad_files()])
def test_a_bad_extra_file_is_named_in_the_error(tmp_path: Path, row: tuple[str, bytes | None, str]) -> None:
    """The operator counts on that root: half of a file is never silently used."""
    _, content, message = row
    path = tmp_path / "upstream-ca.pem"
    if content is not None:
        path.write_bytes(content)
    for write in (write_roots, lambda out, extra: write_bundle(out, root("Egress"), extra)):
        with pytest.raises(StateError, match=message) as caught:
            write(tmp_path / "out.pem", [path])
        assert str(path) in str(caught.value)
        assert caught.value.hint
    assert not (tmp_path / "out.pem").exists()


@pytest.mark.usefixtures("system")
def test_a_private_key_beside_a_root_is_not_copied(tmp_path: Path) -> None:
    """A bundle is for everybody to read; files for --upstream-ca sometimes hold more than they should."""
    path = tmp_path / "both.pem"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nQ0FOQVJZ\n-----END PRIVATE KEY-----\n" + root("Corp"))
    write_roots(tmp_path / "roots.pem", [path])
    assert b"PRIVATE" not in (tmp_path / "roots.pem").read_bytes()


@pytest.mark.usefixtures("system")
def test_a_bundle_is_readable_by_all_and_replaces_a_link(tmp_path: Path) -> None:
    """Mode 0644 under any umask; a link planted in its place is replaced, not written through."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "roots.pem").symlink_to(victim)
    before = os.umask(0o077)
    try:
        write_roots(tmp_path / "roots.pem")
    finally:
        os.umask(before)
    assert not (tmp_path / "roots.pem").is_symlink()
    assert (tmp_path / "roots.pem").stat().st_mode & 0o7777 == 0o644
    assert victim.read_text() == "untouched"


def test_a_reader_never_sees_a_part(tmp_path: Path, system: Path) -> None:
    """While a bundle is written again and again, each read finds it whole."""
    out = tmp_path / "roots.pem"
    write_roots(out)
    whole = out.read_bytes()
    shutil.copy(system, tmp_path / "again.pem")
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(out.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        write_roots(out)
    done.set()
    reader.join()
    assert seen == {whole}
    assert not list(tmp_path.glob(".roots*"))


@pytest.mark.usefixtures("system")
def test_a_root_named_twice_is_written_once(tmp_path: Path) -> None:
    """Adding what the system has changes nothing."""
    (tmp_path / "corp.pem").write_bytes(root("Corp") * 2)
    write_roots(tmp_path / "roots.pem", [tmp_path / "corp.pem", tmp_path / "corp.pem"])
    assert (tmp_path / "roots.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 2


def test_the_environment_names_no_system_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE inside a sandbox's shell is our own client bundle."""
    (tmp_path / "env.pem").write_bytes(root("From the environment"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "env.pem"))
    write_roots(tmp_path / "roots.pem")
    assert "From the environment" not in organisations(tmp_path / "roots.pem")


def test_a_place_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """No traceback for a wrong path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write") as caught:
        write_roots(tmp_path / "file" / "roots.pem")
    assert caught.value.hint

"""The CA's files: made once, at once, for their owner alone, and refused when they are not as they must be."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from egress.certs import Authority
from egress.certs.ca_folder import Held
from egress.certs.mint import CA_LIFETIME, make_authority, new_key
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def pem_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key as an unencrypted PKCS #8 PEM block."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def mode(path: Path) -> int:
    """The permission bits of `path`."""
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_have_their_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """The key is its owner's alone and the certificate everybody's, under a lax and under a strict umask."""
    before = os.umask(umask)
    try:
        Authority.load_or_create(tmp_path / "deep" / "ca")
    finally:
        os.umask(before)
    folder = tmp_path / "deep" / "ca"
    assert (mode(folder), mode(folder / "ca-key.pem"), mode(folder / "ca.pem")) == (0o700, 0o600, 0o644)
    assert not list(folder.glob(".ca*"))
    assert not (folder / "ca.pem.new").exists()


def test_a_second_start_finds_the_same_ca(tmp_path: Path) -> None:
    """A CA is made once."""
    first = Authority.load_or_create(tmp_path / "ca")
    again = Authority.load_or_create(tmp_path / "ca")
    assert again.certificate == first.certificate == Authority.load(tmp_path / "ca").certificate
    assert first.certificate_path.read_bytes() == first.certificate_pem


def test_processes_that_start_at_once_share_one_ca(tmp_path: Path) -> None:
    """Eight processes on an empty folder end with one CA, and each holds the key of the certificate on disk."""
    code = (
        "import sys, pathlib\n"
        "from egress.certs import Authority\n"
        "sys.stdin.read()\n"
        "a = Authority.load_or_create(pathlib.Path(sys.argv[1]))\n"
        "a.leaf('example.com').certificate.verify_directly_issued_by(a.certificate)\n"
        "print(a.certificate.serial_number)\n"
    )
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ca")], stdin=pipe, stdout=pipe, text=True)
        for _ in range(8)
    ]
    # Closing standard input is the starting shot: by then each has had time to import.
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    serials = {process.communicate(timeout=60)[0] for process in running}
    assert len(serials) == 1
    assert serials == {f"{Authority.load(tmp_path / 'ca').certificate.serial_number}\n"}


def test_threads_that_start_at_once_share_one_ca(tmp_path: Path) -> None:
    """The lock holds between threads too, where a lock of the process would not."""
    barrier = threading.Barrier(8)
    found: list[int] = []

    def start() -> None:
        barrier.wait()
        found.append(Authority.load_or_create(tmp_path / "ca").certificate.serial_number)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_crash_after_the_key_is_finished_by_the_next_start(tmp_path: Path) -> None:
    """State 3 of the creation becomes the CA that was being made, not another one."""
    made = Authority.load_or_create(tmp_path)
    (tmp_path / "ca.pem").rename(tmp_path / "ca.pem.new")
    assert Authority.load_or_create(tmp_path).certificate == made.certificate


def test_a_crash_before_the_key_begins_anew(tmp_path: Path) -> None:
    """State 2 of the creation left nothing that anybody could have trusted."""
    made = Authority.load_or_create(tmp_path)
    (tmp_path / "ca.pem").rename(tmp_path / "ca.pem.new")
    (tmp_path / "ca-key.pem").unlink()
    assert Authority.load_or_create(tmp_path).certificate != made.certificate


def test_load_makes_nothing(tmp_path: Path) -> None:
    """`load` of a missing folder or an empty one is an error with a hint, and leaves the disk as it was."""
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(StateError, match="no CA in") as caught:
            Authority.load(folder)
        assert caught.value.hint
    assert not list(tmp_path.iterdir())


def swap_key(folder: Path) -> None:
    """Another key of the right kind."""
    (folder / "ca-key.pem").write_bytes(pem_key(new_key()))


def swap_key_for_rsa(folder: Path) -> None:
    """A key of another kind."""
    (folder / "ca-key.pem").write_bytes(pem_key(rsa.generate_private_key(65537, 2048)))


def encrypt_key(folder: Path) -> None:
    """A key that wants a password."""
    key = new_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (folder / "ca-key.pem").write_bytes(key)


def truncate(name: str) -> Callable[[Path], None]:
    """The first half of a PEM file."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def link(name: str) -> Callable[[Path], None]:
    """A symbolic link to the very same bytes."""

    def damage(folder: Path) -> None:
        (folder / name).rename(folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")

    return damage


def fifo(folder: Path) -> None:
    """A pipe that never gives a byte."""
    (folder / "ca-key.pem").unlink()
    os.mkfifo(folder / "ca-key.pem", 0o600)


def leaf_for_ca(folder: Path) -> None:
    """A certificate that matches the key and is no CA."""
    key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9999))
    from cryptography.hazmat.primitives.hashes import SHA256

    (folder / "ca.pem").write_bytes(builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM))


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("key readable by the group", lambda folder: (folder / "ca-key.pem").chmod(0o640), "open to other users"),
    ("key readable by all", lambda folder: (folder / "ca-key.pem").chmod(0o604), "open to other users"),
    ("certificate writable by all", lambda folder: (folder / "ca.pem").chmod(0o646), "open to other users"),
    ("folder writable by the group", lambda folder: folder.chmod(0o770), "open to other users"),
    ("folder of /tmp's kind", lambda folder: folder.chmod(0o1777), "open to other users"),
    ("another key", swap_key, "does not belong to"),
    ("an RSA key", swap_key_for_rsa, "no EC key on P-256"),
    ("an encrypted key", encrypt_key, "no readable private key"),
    ("half a key", truncate("ca-key.pem"), "no readable private key"),
    ("half a certificate", truncate("ca.pem"), "no readable certificate"),
    ("key is a link", link("ca-key.pem"), "symbolic link"),
    ("certificate is a link", link("ca.pem"), "symbolic link"),
    ("key is a pipe", fifo, "no regular file"),
    ("key is missing", lambda folder: (folder / "ca-key.pem").unlink(), "is missing beside"),
    ("certificate is missing", lambda folder: (folder / "ca.pem").unlink(), "is missing beside"),
    ("key is empty", lambda folder: (folder / "ca-key.pem").write_bytes(b""), "no readable private key"),
    ("key is huge", lambda folder: (folder / "ca-key.pem").write_bytes(b"x" * 70_000), "larger than"),
    ("certificate is no CA's", leaf_for_ca, "no CA certificate"),
    (
        "two certificates",
        lambda folder: (folder / "ca.pem").write_bytes((folder / "ca.pem").read_bytes() * 2),
        "holds 2 certificates",
    ),
]


@pytest.mark.parametrize(("damage", "message"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_a_damaged_or_open_ca_is_refused_with_a_hint(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    """What could make clients trust somebody else, or nobody, is an error that says what to do; nothing is repaired."""
    folder = tmp_path / "ca"
    Authority.load_or_create(folder)
    damage(folder)
    before = {path.name: path.lstat() for path in folder.iterdir()}
    for attempt in (Authority.load, Authority.load_or_create):
        with pytest.raises(StateError, match=message) as caught:
            attempt(folder)
        assert caught.value.hint
        assert "PRIVATE" not in str(caught.value)
    assert {path.name: path.lstat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"} == {
        name: state.st_mtime_ns for name, state in before.items() if name != ".lock"
    }


@pytest.mark.parametrize("name", ["ca-key.pem", "ca.pem", "."])
def test_files_of_another_user_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns the file or its folder could swap the CA under us."""
    Authority.load_or_create(tmp_path / "ca")
    if os.geteuid() == 0:
        os.chown(tmp_path / "ca" / name, 65534, 65534)
    else:
        # Only root can give a file away; for others the proxy becomes another user instead.
        monkeypatch.setattr(os, "geteuid", lambda: 65533)
    with pytest.raises(StateError, match="belongs to user"):
        Authority.load(tmp_path / "ca")


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    """A link could be turned to another folder between two starts."""
    Authority.load_or_create(tmp_path / "ca")
    (tmp_path / "link").symlink_to(tmp_path / "ca")
    with pytest.raises(StateError, match="link or no folder"):
        Authority.load_or_create(tmp_path / "link")


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """A file in the folder's place is no traceback."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError) as caught:
            Authority.load_or_create(folder)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("clock", "message"), [(NOW + CA_LIFETIME, "expired on"), (NOW - timedelta(days=2), "not valid before")]
)
def test_a_ca_outside_its_validity_is_refused(tmp_path: Path, clock: datetime, message: str) -> None:
    """At its end to the second, and before its beginning (a clock that went back)."""
    Authority.load_or_create(tmp_path, clock=lambda: NOW)
    assert Authority.load(tmp_path, clock=lambda: NOW + CA_LIFETIME - timedelta(seconds=1))
    with pytest.raises(StateError, match=message):
        Authority.load(tmp_path, clock=lambda: clock)


def test_two_cas_of_one_machine_and_day_differ_in_subject() -> None:
    """Clients look an issuer up by its subject: two with one name would hide each other."""
    names = {make_authority(new_key(), machine="host", now=NOW).subject.rfc4514_string() for _ in range(20)}
    assert len(names) == 20
    assert all("Egress CA host 2026-11-20" in name for name in names)


def test_a_long_or_odd_machine_name_fits_the_subject() -> None:
    """RFC 5280 allows 64 characters in a common name."""
    subject = make_authority(new_key(), machine="x" * 300 + "\u00e4\n", now=NOW).subject
    (name,) = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert len(name.value) <= 64


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The time that it was set to."""
        return self.now


def test_a_leaf_is_kept_and_renewed_well_before_its_end(tmp_path: Path) -> None:
    """No client ever gets a leaf with less than half of its life before it."""
    clock = Clock()
    authority = Authority.load_or_create(tmp_path, clock=clock)
    first = authority.leaf("example.com")
    assert authority.leaf("example.com") is first
    while authority.leaf("example.com") is first:
        clock.now += timedelta(hours=1)
    assert first.certificate.not_valid_after_utc - clock.now >= timedelta(days=3)


def test_no_leaf_outlives_the_ca(tmp_path: Path) -> None:
    """Near the CA's end leaves get short, after it there are none."""
    clock = Clock()
    authority = Authority.load_or_create(tmp_path, clock=clock)
    end = authority.certificate.not_valid_after_utc
    clock.now = end - timedelta(minutes=1)
    leaf = authority.leaf("example.com")
    assert leaf.certificate.not_valid_after_utc == end
    assert clock.now < leaf.renew_after < end
    clock.now = end
    with pytest.raises(StateError, match="has expired"):
        authority.leaf("example.com")


def test_the_cache_is_bounded_and_keeps_what_is_used(tmp_path: Path) -> None:
    """A sandbox that walks through names displaces what nobody uses, and adds no memory."""
    key = new_key()
    held = Held(make_authority(key, machine="m", now=NOW), key)
    authority = Authority(held, tmp_path, clock=lambda: NOW, max_leaves=4)
    used = authority.leaf("used.example")
    for number in range(20):
        authority.leaf(f"{number}.example")
        assert authority.leaf("used.example") is used
        assert len(authority._leaves) <= 4


def test_leaves_from_many_threads_are_good(tmp_path: Path) -> None:
    """The cache holds under threads: each gets the leaf of the host it asked for, and the bound stays."""
    key = new_key()
    held = Held(make_authority(key, machine="m", now=NOW), key)
    authority = Authority(held, tmp_path, clock=lambda: NOW, max_leaves=5)
    wrong: list[str] = []

    def ask(offset: int) -> None:
        for number in range(60):
            host = f"h{(number + offset) % 9}.example"
            names = authority.leaf(host).certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            if names.value.get_values_for_type(x509.DNSName) != [host]:
                wrong.append(host)

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(authority._leaves) <= 5


def test_the_leaf_key_is_not_the_cas_and_serials_differ(tmp_path: Path) -> None:
    """Who steals a leaf's key from a worker signs nothing with it."""
    authority = Authority.load_or_create(tmp_path)
    leaves = [authority.leaf(f"{number}.example") for number in range(10)]
    assert all(leaf.key.public_key() != authority.certificate.public_key() for leaf in leaves)
    assert len({leaf.certificate.serial_number for leaf in leaves}) == 10


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_an_address_gets_an_address_name(tmp_path: Path, host: str) -> None:
    """Clients look for an iPAddress name when the URL holds an address (RFC 2818, section 3.1)."""
    certificate = Authority.load_or_create(tmp_path).leaf(host).certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ip_address(host)]
    assert not names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    "host", ["", "*.example.com", "a/b", "a:443", "b\u00fccher.example", "a\x00b", "a b", "x" * 254]
)
def test_no_leaf_for_what_is_no_canonical_host(tmp_path: Path, host: str) -> None:
    """A wildcard leaf would speak for many hosts, and the rest no client could match."""
    with pytest.raises(ValueError, match="not a canonical host"):
        Authority.load_or_create(tmp_path).leaf(host)


def test_nothing_prints_the_key(tmp_path: Path) -> None:
    """A log line with the authority in it tells the subject only."""
    assert repr(Authority.load_or_create(tmp_path)).startswith("<Authority CN=Egress CA")

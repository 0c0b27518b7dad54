"""Rotation: another CA in the place of the old one, whole after a crash at any step, trusted before and after."""

from __future__ import annotations

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from egress.certs import Authority, NameConstraints, ca_folder, files
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The time that it was set to."""
        return self.now


def trusted(authority: Authority) -> list[x509.Certificate]:
    """What clients are to trust."""
    return x509.load_pem_x509_certificates(authority.trusted_pem)


def test_rotation_is_another_key_and_keeps_the_old_certificate(tmp_path: Path) -> None:
    """On disk and in memory; the old key is nowhere any more, modes are as they were."""
    authority = Authority.load_or_create(tmp_path / "ca")
    old, old_key = authority.certificate, (tmp_path / "ca" / "ca-key.pem").read_bytes()
    authority.rotate(keep=MONTH)
    assert authority.certificate not in (old, None)
    assert authority.certificate.public_key() != old.public_key()
    assert trusted(authority) == [authority.certificate, old]
    again = Authority.load(tmp_path / "ca")
    assert again.certificate == authority.certificate
    assert trusted(again) == trusted(authority)
    assert old_key not in [path.read_bytes() for path in (tmp_path / "ca").iterdir()]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}
    assert modes == {".lock": 0o600, "ca-key.pem": 0o600, "ca.pem": 0o644, "ca-retired.pem": 0o644}


def test_the_overlap_ends(tmp_path: Path) -> None:
    """To the second; with none, the old certificate is trusted no more at once."""
    clock = Clock()
    authority = Authority.load_or_create(tmp_path / "ca", clock=clock)
    first = authority.certificate
    authority.rotate(keep=MONTH)
    second = authority.certificate
    clock.now = NOW + timedelta(days=10)
    authority.rotate(keep=MONTH)
    assert trusted(authority) == [authority.certificate, first, second]
    assert authority.retired_until == NOW + timedelta(days=40)
    clock.now = NOW + MONTH
    assert trusted(authority) == [authority.certificate, second]
    authority.rotate(keep=timedelta(0))
    third = authority.certificate
    assert trusted(authority) == [third, second]
    clock.now = NOW + timedelta(days=40)
    assert trusted(authority) == [third]
    assert authority.retired_until is None


def test_a_leaf_of_the_old_ca_is_presented_no_more(tmp_path: Path) -> None:
    """The cache is the new CA's."""
    authority = Authority.load_or_create(tmp_path / "ca")
    before = authority.leaf("example.com")
    authority.rotate(keep=MONTH)
    after = authority.leaf("example.com")
    assert after is not before
    after.certificate.verify_directly_issued_by(authority.certificate)


def test_a_process_takes_a_rotation_over_when_it_is_told(tmp_path: Path) -> None:
    """`renew` says whether the CA is another; the leaf key stays its own."""
    serving = Authority.load_or_create(tmp_path / "ca")
    old = serving.leaf("example.com")
    assert not serving.renew()
    assert serving.leaf("example.com") is old
    Authority.load(tmp_path / "ca").rotate(keep=MONTH)
    assert serving.leaf("example.com") is old
    assert serving.renew()
    fresh = serving.leaf("example.com")
    fresh.certificate.verify_directly_issued_by(serving.certificate)
    assert fresh.key is old.key


def test_what_cannot_be_renewed_changes_nothing(tmp_path: Path) -> None:
    """A key that others can read is refused as at the start, and the CA in memory goes on."""
    serving = Authority.load_or_create(tmp_path / "ca")
    old = serving.certificate
    Authority.load(tmp_path / "ca").rotate(keep=MONTH)
    (tmp_path / "ca" / "ca-key.pem").chmod(0o644)
    with pytest.raises(StateError, match="open to other users"):
        serving.renew()
    assert serving.certificate == old
    serving.leaf("example.com").certificate.verify_directly_issued_by(old)


def test_a_prepared_ca_is_trusted_before_it_signs(tmp_path: Path) -> None:
    """Prepared once; the rotation takes that very one, and nothing of it is left."""
    authority = Authority.load_or_create(tmp_path / "ca")
    old = authority.certificate
    authority.prepare()
    assert authority.certificate == old
    (_, following) = trusted(authority)
    authority.prepare()
    assert trusted(Authority.load(tmp_path / "ca")) == [old, following]
    assert stat.S_IMODE((tmp_path / "ca" / "next").stat().st_mode) == 0o700
    authority.rotate(keep=MONTH)
    assert authority.certificate == following
    assert trusted(authority) == [following, old]
    assert not (tmp_path / "ca" / "next").exists()


def test_constraints_stay_unless_others_are_named(tmp_path: Path) -> None:
    """A rotation must not widen what the CA may sign for by being silent about it."""
    corp, other = NameConstraints.parse(["corp.example"]), NameConstraints.parse(["other.example"])
    authority = Authority.load_or_create(tmp_path / "ca", constraints=corp)
    authority.rotate(keep=MONTH)
    assert authority.constraints == corp
    authority.rotate(keep=MONTH, constraints=other)
    assert authority.constraints == other
    authority.prepare()
    with pytest.raises(StateError, match="constrained to other"):
        authority.rotate(keep=MONTH, constraints=corp)
    with pytest.raises(StateError, match="constrained to other"):
        authority.prepare(corp)
    authority.rotate(keep=MONTH)
    assert authority.constraints == other
    authority.rotate(keep=MONTH, constraints=NameConstraints())
    assert not authority.constraints


class Crash(BaseException):
    """The end of the process, as far as the code under test can tell."""


# After which call to the disk the process ends, counted from the beginning of the rotation.
STEPS = ["retired", "certificate", "key", "rename", "remove"]


def crash_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the rotation before this step is done."""
    replaced, renamed = files.replace, os.rename
    names = {"retired": "ca-retired.pem", "certificate": "ca.pem.new", "key": "ca-key.pem"}

    def replace(folder: int, name: str, data: bytes, *, mode: int) -> None:
        if name == names.get(step):
            raise Crash
        replaced(folder, name, data, mode=mode)

    def rename(source: str, target: str, **rest: int) -> None:
        if step == "rename" and target == "ca.pem":
            raise Crash
        renamed(source, target, **rest)

    def rmtree(*_: object, **__: object) -> None:
        raise Crash

    monkeypatch.setattr(files, "replace", replace)
    monkeypatch.setattr(os, "rename", rename)
    if step == "remove":
        monkeypatch.setattr(ca_folder.shutil, "rmtree", rmtree)


@pytest.mark.parametrize("reading", [Authority.load, Authority.load_or_create])
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_leaves_one_whole_ca(
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    prepared: bool,
    reading: Callable[[Path], Authority],
) -> None:
    """Up to the key the old one, from then on the new one; what clients trust holds the one that signs, and the old."""
    authority = Authority.load_or_create(tmp_path / "ca")
    old = authority.certificate
    if prepared:
        authority.prepare()
    with monkeypatch.context() as patch:
        crash_at(step, patch)
        with pytest.raises(Crash):
            authority.rotate(keep=MONTH)
    found = reading(tmp_path / "ca")
    assert (found.certificate == old) is (step in {"retired", "certificate", "key"})
    assert {old, found.certificate} <= set(trusted(found))
    found.leaf("example.com").certificate.verify_directly_issued_by(found.certificate)
    if reading is Authority.load_or_create:
        on_disk = x509.load_pem_x509_certificate((tmp_path / "ca" / "ca.pem").read_bytes())
        assert on_disk == found.certificate
    found.rotate(keep=MONTH)
    last = Authority.load(tmp_path / "ca")
    assert last.certificate == found.certificate != old
    assert old in trusted(last)
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == [
        ".lock",
        "ca-key.pem",
        "ca-retired.pem",
        "ca.pem",
    ]


def test_readers_during_rotations_find_a_whole_ca(tmp_path: Path) -> None:
    """Key and certificate always belong together, without a lock for readers."""
    Authority.load_or_create(tmp_path / "ca")
    going = threading.Event()
    going.set()
    failures: list[BaseException] = []

    def read() -> None:
        while going.is_set():
            try:
                Authority.load(tmp_path / "ca")
            except BaseException as error:  # noqa: BLE001 -- told to the test
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    turning = Authority.load(tmp_path / "ca")
    for _ in range(30):
        turning.rotate(keep=timedelta(0))
    going.clear()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    "data",
    [b"nonsense", b"trusted until tomorrow\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
)
def test_a_damaged_list_of_retired_ones_is_refused(tmp_path: Path, data: bytes) -> None:
    """Clients may rely on each of them."""
    Authority.load_or_create(tmp_path / "ca").rotate(keep=MONTH)
    path = tmp_path / "ca" / "ca-retired.pem"
    path.write_bytes(path.read_bytes() + data)
    with pytest.raises(StateError, match="is damaged") as caught:
        Authority.load(tmp_path / "ca")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["ca-retired.pem", "next"])
def test_what_others_can_write_is_refused(tmp_path: Path, name: str) -> None:
    """Whoever can write there could have clients trust a CA of theirs."""
    authority = Authority.load_or_create(tmp_path / "ca")
    authority.rotate(keep=MONTH)
    authority.prepare()
    (tmp_path / "ca" / name).chmod(0o777)
    with pytest.raises(StateError, match="open to other users"):
        Authority.load(tmp_path / "ca")


def test_the_retired_ones_hold_no_key(tmp_path: Path) -> None:
    """Certificates and dates alone."""
    authority = Authority.load_or_create(tmp_path / "ca")
    authority.rotate(keep=MONTH)
    assert b"PRIVATE" not in (tmp_path / "ca" / "ca-retired.pem").read_bytes() + authority.trusted_pem
    pem = authority.certificate.public_bytes(serialization.Encoding.PEM)
    assert authority.trusted_pem.startswith(pem)

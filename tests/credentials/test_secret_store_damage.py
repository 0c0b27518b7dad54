"""Whatever is changed in the secret store's file is noticed: nothing of it passes, and nothing is written over it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from secret_stores import GITHUB, KEY, MODEL, OTHER_KEY, kept, made, meddle, own, put, row, value

from egress.config import binding_text
from egress.credentials.sealing import Damaged, Sealer
from egress.credentials.secret_store import FILE_NAME, SecretStore
from egress.errors import EgressError, StateError

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("name", "binding")
NUMBERS = ("version", "created_us", "rotated_us")
BYTES = ("nonce", "ciphertext")
RECORD = Sealer(KEY, b"s" * 16).encrypt("github", 3, binding_text(GITHUB), 1_000, 2_000, "canary")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's file, closed."""
    with made(tmp_path) as store:
        return store.path


def refused(path: Path) -> str:
    """Check that nothing can be done with the store, and that it stays as it is; give the error."""
    before = path.read_bytes()
    store = SecretStore(path, KEY)
    told = set()
    for call in (
        store.list,
        lambda: store.get("github"),
        lambda: store.get("model"),
        lambda: put(store, "github", "new", GITHUB),
        lambda: put(store, "new", "new", GITHUB),
        lambda: store.remove("github"),
        lambda: store.rekey(OTHER_KEY),
    ):
        with pytest.raises(StateError) as error:
            call()
        told.add(error.value.message)
        assert error.value.hint
    store.close()
    assert path.read_bytes() == before
    assert len(told) == 1
    return told.pop()


def flips(data: bytes) -> list[bytes]:
    """Give the bytes with one bit of each byte turned over, one at a time."""
    return [data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :] for at in range(len(data))]


@pytest.mark.parametrize("column", [*TEXTS, *BYTES])
def test_every_changed_byte_of_a_row_is_noticed(path: Path, column: str) -> None:
    """In whatever column; the other secrets do not pass either."""
    table = row(path, "github")
    names = ("name", "version", "binding", "created_us", "rotated_us", "nonce", "ciphertext")
    stored = table[names.index(column)]
    data = stored.encode() if isinstance(stored, str) else stored
    assert isinstance(data, bytes)
    whole = path.read_bytes()
    for changed in flips(data):
        place = "CAST(? AS TEXT)" if column in TEXTS else "?"
        meddle(path, f"UPDATE secrets SET {column} = {place} WHERE name = 'github'", changed)  # noqa: S608 -- a test's
        assert "damaged" in refused(path)
        path.write_bytes(whole)
    assert kept(path) == "canary-github-1"


@pytest.mark.parametrize("column", NUMBERS)
def test_every_changed_number_of_a_row_is_noticed(path: Path, column: str) -> None:
    """A version or a time is authenticated like the rest."""
    meddle(path, f"UPDATE secrets SET {column} = {column} + 1 WHERE name = 'github'")  # noqa: S608 -- a test's
    assert "damaged" in refused(path)


@pytest.mark.parametrize("column", ["store_id", "key_id", "seal"])
def test_every_changed_byte_of_the_stores_own_row_is_damage(path: Path, column: str) -> None:
    """And is told as that, not as a wrong key."""
    whole = path.read_bytes()
    stored = own(path, column)
    for changed in flips(stored):
        meddle(path, f"UPDATE store SET {column} = ?", changed)  # noqa: S608 -- a test's
        assert "damaged" in refused(path)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM secrets WHERE name = 'model'",
        "DELETE FROM secrets",
        "UPDATE secrets SET name = 'other' WHERE name = 'model'",
        "UPDATE secrets SET binding = (SELECT binding FROM secrets WHERE name = 'model')",
        "UPDATE secrets SET (nonce, ciphertext) = (SELECT nonce, ciphertext FROM secrets WHERE name = 'model')",
        "INSERT INTO secrets SELECT 'x', version, binding, 0, 0, nonce, ciphertext FROM secrets WHERE name = 'model'",
        "UPDATE secrets SET name = CASE name WHEN 'model' THEN 'Github' ELSE name END",
        "DELETE FROM store",
        "INSERT INTO store SELECT 2, format, store_id, key_id, seal FROM store",
        "DROP TABLE secrets",
        "DROP TABLE uses",
        "UPDATE store SET format = 0",
    ],
)
def test_rows_moved_between_names_are_noticed(path: Path, statement: str) -> None:
    """Removed, renamed, bound elsewhere, swapped or doubled."""
    meddle(path, statement)
    refused(path)


def test_a_row_put_back_from_an_older_file_is_noticed(path: Path) -> None:
    """A value that was rotated away does not come back by itself."""
    old = row(path, "github")
    with SecretStore.open(path, KEY) as store:
        put(store, "github", "two")
    meddle(path, "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?, ?, ?, ?)", *old)
    assert "damaged" in refused(path)


def test_a_row_of_another_store_under_the_same_key_is_noticed(path: Path, tmp_path: Path) -> None:
    """Each store has an identity of its own, from which its keys are derived."""
    with made(tmp_path / "other") as other:
        stranger = row(other.path, "github")
    meddle(path, "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?, ?, ?, ?)", *stranger)
    assert "damaged" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "model"},
        {"version": 2},
        {"binding": binding_text(MODEL)},
        {"created_us": 1_001},
        {"rotated_us": 2_001},
        {"nonce": bytes(12)},
        {"ciphertext": RECORD.ciphertext[:-1]},
        {"ciphertext": b""},
        # The fields' texts in a row are the same, the fields are not.
        {"name": "github3", "version": 3},
    ],
)
def test_a_record_does_not_open_with_anything_else_beside_it(change: dict[str, object]) -> None:
    """By its own authentication, whatever the seal says."""
    sealer = Sealer(KEY, b"s" * 16)
    assert sealer.decrypt(RECORD) == "canary"
    with pytest.raises(Damaged):
        sealer.decrypt(replace(RECORD, **change))  # type: ignore[arg-type]


def test_a_record_does_not_open_in_another_store_or_under_another_key() -> None:
    """The keys are derived from both."""
    for sealer in (Sealer(KEY, b"t" * 16), Sealer(OTHER_KEY, b"s" * 16)):
        with pytest.raises(Damaged):
            sealer.decrypt(RECORD)


def test_a_truncated_file_is_refused_wherever_it_ends(path: Path) -> None:
    """Also where it is empty: that is no new store."""
    whole = path.read_bytes()
    for size in range(0, len(whole), 512):
        path.write_bytes(whole[:size])
        refused(path)


def test_a_changed_byte_of_the_file_never_gives_another_value(path: Path) -> None:
    """Refused, or where SQLite has no use for the byte, as it was."""
    whole = path.read_bytes()
    expected = {"github": "canary-github-1", "model": "canary-model-1"}
    noticed = 0
    for at in range(0, len(whole), 47):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 0x11,)) + whole[at + 1 :])
        try:
            with SecretStore.open(path, KEY) as store:
                assert {name: value(store, name) for name in expected} == expected
                assert store.get("github").binding == GITHUB
        except EgressError:
            noticed += 1
    assert noticed > 10


def test_a_wrong_key_is_told_as_that(path: Path) -> None:
    """And changes nothing."""
    before = path.read_bytes()
    with pytest.raises(StateError, match="was written with another key than this one"):
        SecretStore.open(path, OTHER_KEY)
    with SecretStore(path, OTHER_KEY) as store, pytest.raises(StateError, match="was written with another key"):
        put(store, "github", "x", GITHUB)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_store_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    """Making a store leaves it as it is too."""
    path.write_bytes(content)
    with pytest.raises(StateError):
        SecretStore.create(path, KEY)
    refused(path)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    """By what its header says it is."""
    meddle(path, "PRAGMA application_id = 7")
    assert "is a database, but not a secret store" in refused(path)


def test_triggers_in_the_file_are_not_run(path: Path) -> None:
    """Who could write the file for a moment must not change what is written later."""
    meddle(path, "CREATE TRIGGER t AFTER UPDATE ON secrets BEGIN DELETE FROM secrets; END")
    meddle(path, "CREATE TRIGGER u AFTER INSERT ON secrets BEGIN DELETE FROM uses; END")
    with SecretStore.open(path, KEY) as store:
        store.used("model", 1_000.0)
        put(store, "github", "two")
        assert (value(store), store.list()[1].used) == ("two", 1_000)


def test_files_that_others_could_use_are_refused(path: Path, tmp_path: Path) -> None:
    """A file that others can read, a folder that they can write, a link, a folder in its place."""
    path.chmod(0o640)
    assert "open to other users" in refused(path)
    path.chmod(0o600)
    path.parent.chmod(0o770)
    assert "open to other users" in refused(path)
    path.parent.chmod(0o700)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "no regular file" in refused(path)
    path.unlink()
    (tmp_path / "elsewhere").rename(path.parent / FILE_NAME)
    assert kept(path) == "canary-github-1"

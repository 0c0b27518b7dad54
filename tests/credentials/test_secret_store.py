"""The secret store keeps values and what they are bound to, and shows what others change, whole or not at all."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from secret_stores import GITHUB, KEY, MODEL, OTHER_KEY, made, meddle, put, value

from egress.config import read_binding
from egress.credentials import Secret, secret_store, store_schema
from egress.credentials.secret_store import FILE_NAME, SecretStore
from egress.errors import CredentialError, StateError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlite_utils import Database

PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n"

# Puts `value N` as version N for ever, and says each once it is kept.
WRITER = """
import sys
from pathlib import Path
from egress.config import read_binding
from egress.credentials import Secret
from egress.credentials.master_key import MasterKey
from egress.credentials.secret_store import SecretStore
store = SecretStore.open(Path(sys.argv[1]), MasterKey(bytes(range(32))))
while True:
    after = store.get("counted").version + 1
    store.put("counted", Secret("counted", f"value {after}"))
    print(after, flush=True)
"""


@pytest.mark.parametrize("text", ["x", "ghp_" + "a" * 36, PEM, "é" * 1000, "a" * 65536])
def test_what_is_put_comes_out_with_its_binding(tmp_path: Path, text: str) -> None:
    """In this process and in one that opens the file later, character for character."""
    with made(tmp_path) as store:
        put(store, "new", text, GITHUB)
    with SecretStore.open(store.path, KEY) as later:
        found = later.get("new")
        assert (found.value.reveal(), found.binding, found.version) == (text, GITHUB, 1)
        assert (found.hosts, found.methods, found.paths) == (("api.github.com",), ("GET", "POST"), ("/repos/**",))


@pytest.mark.parametrize("text", ["", "a" * 65537, "nul\0", "\udc80"])
def test_what_is_no_text_or_too_long_is_not_kept(tmp_path: Path, text: str) -> None:
    """The error names the secret and not its value, and the store stays as it was."""
    with made(tmp_path) as store:
        with pytest.raises(CredentialError, match="secret `github`") as error:
            put(store, "github", text)
        assert text == "" or text not in str(error.value)
        assert value(store) == "canary-github-1"


def test_a_new_value_keeps_the_binding_and_counts_the_version(tmp_path: Path) -> None:
    """Unless another binding comes with it; when it was first kept stays."""
    with made(tmp_path) as store:
        (first,) = (known for known in store.list() if known.name == "github")
        after = store.rotate("github", Secret("github", "two"))
        assert (after.version, after.binding, after.created) == (2, GITHUB, first.created)
        assert after.rotated > first.rotated
        after = store.put("github", Secret("github", "three"), MODEL)
        assert (after.version, after.binding.hosts) == (3, tuple(sorted(MODEL.hosts, key=repr, reverse=True)))
        assert value(store) == "three"


def test_a_new_secret_needs_a_binding_and_rotating_needs_a_secret(tmp_path: Path) -> None:
    """A value that could go nowhere, or under a misspelt name, is a mistake."""
    with made(tmp_path) as store:
        with pytest.raises(CredentialError, match="bound to no host"):
            put(store, "new", "x")
        for wrong in (
            lambda: store.rotate("githbu", Secret("githbu", "x")),
            lambda: store.remove("githbu"),
            lambda: store.get("githbu"),
        ):
            with pytest.raises(CredentialError, match="no secret `githbu`"):
                wrong()
        assert [known.name for known in store.list()] == ["github", "model"]


def test_a_removed_secret_is_gone_from_the_file(tmp_path: Path) -> None:
    """Neither its row nor when it was used is left, nor its ciphertext in a free page."""
    with made(tmp_path) as store:
        put(store, "long", "z" * 20_000, GITHUB)
        before = store.path.read_bytes()
        store.used("long", 1_000.0)
        tail = before[-6_000:-5_000]
        store.remove("long")
        assert [known.name for known in store.list()] == ["github", "model"]
        assert tail not in store.path.read_bytes()


def test_no_value_stands_in_the_file(tmp_path: Path) -> None:
    """Nor does any file of SQLite's stay beside it; it is its owner's alone."""
    with made(tmp_path) as store:
        assert b"canary" not in store.path.read_bytes()
        assert [file.name for file in store.path.parent.iterdir()] == [FILE_NAME]
        assert store.path.stat().st_mode & 0o777 == 0o600
        assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_reader_sees_what_another_writes(tmp_path: Path) -> None:
    """`changed` says so before it is read, and no more after; what changes nothing does not."""
    with made(tmp_path) as writer, SecretStore.open(writer.path, KEY) as reader:
        assert value(reader) == "canary-github-1"
        assert not reader.changed()
        put(writer, "github", "two")
        assert reader.changed()
        assert (value(reader), reader.changed()) == ("two", False)
        writer.remove("github")
        assert reader.changed()
        with pytest.raises(CredentialError):
            reader.get("github")


def test_a_store_that_comes_later_is_seen(tmp_path: Path) -> None:
    """A proxy may start before the first secret is set."""
    reader = SecretStore(tmp_path / "state" / FILE_NAME, KEY)
    with pytest.raises(StateError, match="there is no secret store") as error:
        reader.get("github")
    assert "egress secret set" in error.value.hint
    with made(tmp_path):
        assert reader.changed()
        assert value(reader) == "canary-github-1"
    reader.close()


def test_another_file_in_its_place_is_seen(tmp_path: Path) -> None:
    """As when a backup is put back; an older file opens, with the older value: that is not noticed."""
    with made(tmp_path) as store:
        shutil.copy2(store.path, tmp_path / "older")
        put(store, "github", "two")
        assert value(store) == "two"
        (tmp_path / "older").rename(store.path)
        assert store.changed()
        assert value(store) == "canary-github-1"


def test_last_use_is_noted_once_a_minute(tmp_path: Path) -> None:
    """A use that goes back in time changes nothing, and of an unknown secret nothing is noted."""
    with made(tmp_path) as store:
        seen = []
        for when in (1_000.0, 1_059.0, 1_060.0, 900.0):
            store.used("github", when)
            seen.append(store.list()[0].used)
        store.used("unknown", 1_000.0)
        assert seen == [1_000, 1_000, 1_060, 1_060]
        assert store.list()[1].used is None


def test_a_use_that_cannot_be_noted_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A request is not refused for it; the log says so."""
    with made(tmp_path) as store:
        store.path.rename(tmp_path / "away")
        store.used("github", 1_000.0)
    assert "the use of secret `github` was not noted" in caplog.text


def test_rekeying_changes_the_key_of_everything(tmp_path: Path) -> None:
    """The new key opens it with the same values, bindings, versions and times; the old one does not."""
    with made(tmp_path) as store:
        before = store.list()
        store.rekey(OTHER_KEY)
        assert (store.list(), value(store)) == (before, "canary-github-1")
    with SecretStore.open(store.path, OTHER_KEY) as later:
        assert (later.list(), value(later, "model")) == (before, "canary-model-1")
    with pytest.raises(StateError, match="another key"):
        SecretStore.open(store.path, KEY)


def test_a_rekey_that_fails_leaves_the_old_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, or nothing."""
    with made(tmp_path) as store:
        broken = secret_store.Rows.replace_all

        def fail(rows: secret_store.Rows, *rest: object) -> None:
            broken(rows, *rest)  # type: ignore[arg-type]
            raise OSError(5, "broken")

        monkeypatch.setattr(secret_store.Rows, "replace_all", fail)
        with pytest.raises(StateError):
            store.rekey(OTHER_KEY)
    with SecretStore.open(store.path, KEY) as later:
        assert value(later) == "canary-github-1"


def test_writers_take_turns(tmp_path: Path) -> None:
    """Of forty changes by four at a time none is lost, and none fails."""
    with made(tmp_path) as made_store:
        path = made_store.path
    failed: list[Exception] = []

    def write() -> None:
        try:
            with SecretStore.open(path, KEY) as own:
                for number in range(10):
                    put(own, "github", f"value {number}")
        except Exception as error:  # noqa: BLE001 -- told by the test
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with SecretStore.open(path, KEY) as store:
        assert store.get("github").version == 41


def test_a_writer_that_is_killed_leaves_a_whole_store(tmp_path: Path) -> None:
    """The last value that it said it kept, or the one after; never less, and never a part."""
    with made(tmp_path) as store:
        put(store, "counted", "value 1", GITHUB)
    pauses = random.Random(5)  # noqa: S311 -- when to kill is no secret
    for _ in range(6):
        with SecretStore.open(store.path, KEY) as opened:
            before = opened.get("counted").version
        command = [sys.executable, "-c", WRITER, str(store.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = [int(writer.stdout.readline())]
            time.sleep(pauses.uniform(0, 0.1))
            writer.kill()
            said += map(int, writer.stdout.read().split())
        assert said[0] > before
        with SecretStore.open(store.path, KEY) as after:
            found = after.get("counted")
            assert found.version in {said[-1], said[-1] + 1}
            assert found.value.reveal() == f"value {found.version}"


def test_a_forked_process_opens_the_file_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's connections must not be carried over a fork."""
    with made(tmp_path) as store:
        first = store._open()
        monkeypatch.setattr(os, "getpid", lambda: 1)
        assert store.changed()
        assert value(store) == "canary-github-1"
        assert store._open() is not first
        store.close()
        monkeypatch.undo()
        first.execute("SELECT 1")
        first.close()


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    """By the schema's number, or the records' format."""
    for statement in ("PRAGMA user_version = 2", "UPDATE store SET format = 2"):
        folder = tmp_path / statement.split()[0]
        with made(folder) as made_store:
            path = made_store.path
        meddle(path, statement)
        before = path.read_bytes()
        with pytest.raises(StateError, match=r"newer Egress \(schema 2|format 2"):
            SecretStore.open(path, KEY)
        assert path.read_bytes() == before


def test_an_older_store_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is opened, with all that is in it."""
    with made(tmp_path) as made_store:
        path = made_store.path

    def add_column(database: Database) -> None:
        database.execute("ALTER TABLE secrets ADD COLUMN note TEXT")

    monkeypatch.setattr(store_schema, "MIGRATIONS", (*store_schema.MIGRATIONS, add_column))
    with SecretStore.open(path, KEY) as store:
        assert value(store) == "canary-github-1"
        assert store._open().execute("PRAGMA user_version").fetchone() == (2,)
        store._open().execute("SELECT note FROM secrets")


def test_a_binding_that_this_version_refuses_names_its_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a suffix has become a public one: the value goes nowhere, and the error says what to do."""
    with made(tmp_path) as store:
        put(store, "wide", "x", read_binding(["*.pages.example"]))
        monkeypatch.setattr("egress.policy.targets._PUBLIC_SUFFIXES", frozenset({"pages.example"}))
        with pytest.raises(CredentialError, match="secret `wide` has a binding that this version cannot read"):
            store.get("wide")
        assert value(store) == "canary-github-1"

"""The store's key: where it may come from, what is refused, and how it is replaced without a moment without one."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from secret_stores import KEY, OTHER_KEY, kept, made, put, value

from egress.config import KeyCommand, KeyFile, KeyKeyring, KeySystemd, KeyVariable
from egress.credentials import key_sources
from egress.credentials.key_sources import KeyReader, next_path, rekey_in_place, write_new_key
from egress.credentials.master_key import MasterKey
from egress.credentials.secret_store import FILE_NAME, SecretStore
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.config import KeySource

TEXT = KEY.text()


def reader(source: KeySource, folder: Path, env: dict[str, str] | None = None) -> KeyReader:
    """Give a reader for a state folder below this one."""
    return KeyReader(source, state_dir=folder / "state", env={} if env is None else env)


def key_file(folder: Path, text: str = TEXT) -> Path:
    """Write a key file."""
    path = folder / "keys" / "secrets.key"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def test_a_key_does_not_show_itself() -> None:
    """Neither printed, nor in a dump, a copy or a pickle."""
    for text in (repr(KEY), str(KEY), f"{KEY}"):
        assert text == "<master key>"
    for take in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            take(KEY)
    assert MasterKey(bytes(range(32))) == KEY
    assert KEY != OTHER_KEY
    assert TEXT.encode() not in KEY.key_id


@pytest.mark.parametrize("text", ["", "x", TEXT[:-4], TEXT + "AAAA", "é", TEXT.replace("A", "!", 1), "00" * 32])
def test_what_is_no_key_is_refused_and_not_quoted(text: str) -> None:
    """32 bytes in base64, and nothing else."""
    with pytest.raises(StateError, match="the file holds no key") as error:
        MasterKey.of_text(text, "the file")
    assert not text or text not in str(error.value).replace("the file", "")


def test_a_key_is_read_from_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key from all of them."""
    keyring = ModuleType("keyring")
    keyring.get_password = lambda service, user: TEXT if (service, user) == ("egress", "me") else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    path = key_file(tmp_path)
    sources: list[KeySource] = [
        KeyFile(path),
        KeyVariable("THE_KEY"),
        KeyCommand((sys.executable, "-c", f"print('{TEXT}')")),
        KeyKeyring("egress", "me"),
        KeySystemd(path.name),
    ]
    for source in sources:
        env = {"THE_KEY": TEXT, "CREDENTIALS_DIRECTORY": str(path.parent)}
        assert reader(source, tmp_path, env)() == (KEY,)


def test_a_variable_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    """At once, and the key can be asked for again."""
    env = {"THE_KEY": TEXT, "OTHER": "x"}
    keys = reader(KeyVariable("THE_KEY"), tmp_path, env)
    assert env == {"OTHER": "x"}
    assert keys() == keys() == (KEY,)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (KeyVariable("THE_KEY"), "the variable `THE_KEY` with the key of the secret store is not set"),
        (KeyCommand(("/nowhere/tool",)), "does not start: No such file"),
        (KeyCommand((sys.executable, "-c", "raise SystemExit(3)")), "ended with status 3"),
        (KeyCommand((sys.executable, "-c", "print('x' * 5000)")), "printed more than 1024 bytes"),
        (KeyCommand((sys.executable, "-c", "print('canary-no-key')")), "holds no key"),
        (KeyCommand((sys.executable, "-c", "import time; time.sleep(60)"), seconds=0.2), "took more than 0.2 seconds"),
        (KeySystemd("egress-secrets-key"), "systemd hands no credential"),
        (KeySystemd("../etc/key"), "systemd hands no credential"),
        (KeyKeyring("egress", "me"), "the keyring needs the package `keyring`"),
    ],
)
def test_a_source_without_a_key_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: KeySource, message: str
) -> None:
    """And what to do, and nothing of what it gave."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(StateError, match=message) as error:
        reader(source, tmp_path)()
    assert "canary" not in str(error.value)


def test_a_keyring_that_fails_or_is_empty_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own message is not passed on."""
    keyring = ModuleType("keyring")
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    keyring.get_password = lambda *_: None  # type: ignore[attr-defined]
    with pytest.raises(StateError, match="holds no key"):
        reader(KeyKeyring("egress", "me"), tmp_path)()

    def locked(*_: str) -> str:
        raise RuntimeError("canary")

    keyring.get_password = locked  # type: ignore[attr-defined]
    with pytest.raises(StateError, match=r"cannot be read \(RuntimeError\)") as error:
        reader(KeyKeyring("egress", "me"), tmp_path)()
    assert "canary" not in str(error.value)


def _open_to_group(path: Path) -> None:
    path.chmod(0o640)


def _open_to_all(path: Path) -> None:
    path.chmod(0o604)


def _of_a_stranger(path: Path) -> None:
    os.chown(path, 12345, -1)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _missing(path: Path) -> None:
    path.unlink()


def _link_into_state(path: Path) -> None:
    state = path.parent.parent / "state"
    state.mkdir(mode=0o700)
    path.rename(state / "key")
    path.symlink_to(state / "key")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_open_to_group, "is open to other users"),
        (_open_to_all, "is open to other users"),
        (_of_a_stranger, "belongs to user 12345"),
        (_folder, "is no regular file"),
        (_missing, "there is no key file"),
        (_link_into_state, "is inside the state folder"),
    ],
)
def test_a_key_file_that_is_not_safe_is_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    """Open to others, theirs, or kept with what it locks."""
    path = key_file(tmp_path)
    spoil(path)
    with pytest.raises(StateError, match=message):
        reader(KeyFile(path), tmp_path)()


def test_a_mounted_key_is_read_through_its_links(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: a link to a folder that is a link."""
    path = key_file(tmp_path)
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "..data").symlink_to(path.parent)
    (tmp_path / "mount" / "key").symlink_to(tmp_path / "mount" / "..data" / path.name)
    assert reader(KeyFile(tmp_path / "mount" / "key"), tmp_path)() == (KEY,)


def test_a_key_is_made_with_the_store_and_not_again(tmp_path: Path) -> None:
    """For its owner alone, in a folder of its owner's; one that is there is used."""
    path = tmp_path / "config" / "egress" / "secrets.key"
    first = reader(KeyFile(path), tmp_path).made()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert reader(KeyFile(path), tmp_path).made() == first
    assert [file.name for file in path.parent.iterdir()] == ["secrets.key"]
    with pytest.raises(StateError, match="inside the state folder"):
        reader(KeyFile(tmp_path / "state" / "secrets.key"), tmp_path).made()


def test_of_two_that_make_a_key_both_have_the_first(tmp_path: Path) -> None:
    """The second must not lock the store with a key that is not kept."""
    path = tmp_path / "keys" / "secrets.key"
    found: list[MasterKey] = []

    def make() -> None:
        write_new_key(path, MasterKey.make())
        found.extend(reader(KeyFile(path), tmp_path)())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_proxy_that_runs_takes_a_new_key_over(tmp_path: Path) -> None:
    """The store says with which key it was written, and the file is read again."""
    path = key_file(tmp_path)
    with made(tmp_path) as store, SecretStore.open(store.path, reader(KeyFile(path), tmp_path)) as running:
        assert value(running) == "canary-github-1"
        rekey_in_place(store, path)
        assert path.read_text().strip() != TEXT
        assert (running.changed(), value(running)) == (True, "canary-github-1")
        put(store, "github", "two")
        assert value(running) == "two"
    assert not next_path(path).exists()


@pytest.mark.parametrize("killed_at", ["store", "rename"])
def test_a_rekey_that_is_killed_leaves_a_key_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """Before the store is written anew, or after: the next rekey ends what was left, and nothing is lost."""
    path = key_file(tmp_path)

    class Killed(BaseException):
        """What no `except Exception` sees."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    keys = reader(KeyFile(path), tmp_path)
    with made(tmp_path) as store:
        with monkeypatch.context() as patched:
            if killed_at == "store":
                patched.setattr(SecretStore, "rekey", kill)
            else:
                patched.setattr(key_sources.os, "rename", kill_rename(kill))
            with pytest.raises(Killed):
                rekey_in_place(store, path)
        assert next_path(path).exists()
    with SecretStore.open(tmp_path / "state" / FILE_NAME, keys) as later:
        assert value(later) == "canary-github-1"
        rekey_in_place(later, path)
        assert value(later) == "canary-github-1"
    assert not next_path(path).exists()
    (key,) = keys()
    assert kept(tmp_path / "state" / FILE_NAME, key=key) == "canary-github-1"


def kill_rename(kill: Callable[..., None]) -> Callable[..., None]:
    """Give a rename that kills where the next key becomes the key."""
    rename = os.rename

    def renamed(source: str, target: str, **rest: int) -> None:
        if source.endswith(".next"):
            kill()
        rename(source, target, **rest)

    return renamed

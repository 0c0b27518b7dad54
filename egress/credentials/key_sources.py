"""Reads the key of the secret store from where configuration says it is, and makes the file that keeps it.

1. A key file is the owner's alone, and outside the state folder, so that whoever gets a copy of that has no key.
2. A key is made with the store, never beside one that is there: that one was written with another.
3. While a key is being replaced there are two, FILE and FILE.next; the store says which of them it was written with.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from egress.certs.files import opened_folder, replace
from egress.config import KeyCommand, KeyFile, KeyKeyring, KeySource, KeySystemd, KeyVariable, printable
from egress.credentials.master_key import MasterKey
from egress.credentials.programs import output_of
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from egress.credentials.secret_store import SecretStore

_AT_MOST: Final = 1_024


class KeyReader:
    """Reads the key again whenever the store asks, but from a variable once: it is then taken out of `env`."""

    def __init__(self, source: KeySource, *, state_dir: Path, env: MutableMapping[str, str]) -> None:
        self.source = source
        self._state_dir = state_dir
        self._env = env
        self._taken: MasterKey | None = None
        if isinstance(source, KeyVariable):
            # Here and now: what is still in the environment later, child processes get.
            text = env.pop(source.name, "")
            self._taken = MasterKey.of_text(text, f"the variable `{source.name}`") if text else None

    def __call__(self) -> tuple[MasterKey, ...]:
        """The key, and while it is being replaced the next one. Raises StateError."""
        match self.source:
            case KeyFile(path):
                return self._of_file(path)
            case KeyVariable(name):
                if self._taken is None:
                    raise StateError(f"the variable `{name}` with the key of the secret store is not set")
                return (self._taken,)
            case KeyCommand(argv, seconds):
                what = f"the command `{printable(argv[0])}`"
                text = output_of(argv, seconds=seconds, most=_AT_MOST, what=f"{what} for the key of the secret store")
                return (MasterKey.of_text(text, what),)
            case KeyKeyring(service, user):
                return (_of_keyring(service, user),)
            case KeySystemd(name):
                return (self._of_systemd(name),)
            case _:
                assert_never(self.source)

    def made(self) -> MasterKey:
        """The key for a new store: the one that is there, else, for a key file, a new one."""
        if isinstance(self.source, KeyFile) and not os.path.lexists(self.source.path):
            refuse_inside(self.source.path, self._state_dir)
            write_new_key(self.source.path, MasterKey.make())
        return self()[0]

    def _of_file(self, path: Path) -> tuple[MasterKey, ...]:
        refuse_inside(path, self._state_dir)
        # The next one first: if it is renamed in between, what is then read as the key is it.
        after, key = _read_key(next_path(path)), _read_key(path)
        if key is None:
            raise _no_file(path)
        return (key,) if after is None else (key, after)

    def _of_systemd(self, name: str) -> MasterKey:
        folder = self._env.get("CREDENTIALS_DIRECTORY", "")
        if not folder.startswith("/") or not name or "/" in name or name.startswith("."):
            hint = f"write `LoadCredentialEncrypted={name}:FILE` into the unit"
            raise StateError(f"systemd hands no credential `{printable(name)}` to this process", hint=hint)
        path = Path(folder) / name
        key = _read_key(path)
        if key is None:
            raise _no_file(path)
        return key


def next_path(path: Path) -> Path:
    """Where the next key is while the one at `path` is being replaced."""
    return path.with_name(path.name + ".next")


def refuse_inside(path: Path, folder: Path) -> None:
    """Raise StateError for a key that is kept with what it locks, be it through a link."""
    real = Path(os.path.realpath(folder))
    if any(place == real or real in place.parents for place in (path.absolute(), Path(os.path.realpath(path)))):
        hint = "put it elsewhere, with --secrets-key-file or `secrets_key`: a copy of the folder must not hold the key"
        raise StateError(f"the key file `{path}` is inside the state folder `{folder}`", hint=hint)


def write_new_key(path: Path, key: MasterKey) -> None:
    """Make a key file, for its owner alone, and its folder. One that is there is left as it is."""
    with opened_folder(path.parent, create=True, option="--secrets-key-file") as folder:
        temporary = f".{path.name}.{secrets.token_hex(8)}"
        try:
            replace(folder, temporary, f"{key.text()}\n".encode(), mode=0o600)
            # A link, not a rename: of two that begin at the same time, both must use the key of the first.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.unlink(temporary, dir_fd=folder)
            os.fsync(folder)
        except OSError as error:
            raise StateError(f"cannot make the key file `{path}`: {error.strerror}") from error


def rekey_in_place(store: SecretStore, path: Path) -> None:
    """Give the store a new key in the file that has the old one: at each moment, one of its two files opens it."""
    with _locked(path) as folder:
        settle(store, path, folder)
        key = MasterKey.make()
        replace(folder, next_path(path).name, f"{key.text()}\n".encode(), mode=0o600)
        store.rekey(key)
        os.rename(next_path(path).name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def settle(store: SecretStore, path: Path, folder: int) -> None:
    """End what a rekey that was killed left: the next key is the key if the store was written with it."""
    store.list()
    after = next_path(path)
    left = _read_key(after)
    if left is None:
        return
    if left == store.key:
        os.rename(after.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(after.name, dir_fd=folder)
    os.fsync(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The key's folder, and a lock on it: of two rekeys, the second begins when the first is done."""
    try:
        with opened_folder(path.parent, create=False, option="--secrets-key-file") as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder
    except OSError as error:
        raise StateError(f"cannot replace the key file `{path}`: {error.strerror}") from error


def _no_file(path: Path) -> StateError:
    return StateError(f"there is no key file `{path}`", hint="put the key there that the secret store was written with")


def _read_key(path: Path) -> MasterKey | None:
    """The key in a file; None if there is no file.

    Links are followed, since Kubernetes mounts are links; what is checked is what was opened.
    """
    try:
        descriptor = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot open the key file `{path}`: {error.strerror}") from error
    try:
        _check_private(path, os.fstat(descriptor))
        return MasterKey.of_text(os.read(descriptor, _AT_MOST).decode("latin-1"), f"the file `{path}`")
    finally:
        os.close(descriptor)


def _check_private(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise StateError(f"the key file `{path}` is no regular file", hint="name the file itself")
    if state.st_uid not in {os.geteuid(), 0}:
        raise StateError(f"the key file `{path}` belongs to user {state.st_uid}", hint=f"chown {os.geteuid()} '{path}'")
    forbidden = stat.S_IRWXG | stat.S_IRWXO
    if state.st_uid != os.geteuid():
        # Root's file that we read as one of its group: how Kubernetes (`fsGroup`) and systemd hand a file to a user.
        forbidden &= ~stat.S_IRGRP
    if state.st_mode & forbidden:
        mode = stat.S_IMODE(state.st_mode)
        raise StateError(f"the key file `{path}` is open to other users (mode {mode:04o})", hint=f"chmod 600 '{path}'")


def _of_keyring(service: str, user: str) -> MasterKey:
    place = f"the keyring's entry `{printable(service)}`, `{printable(user)}`"
    try:
        keyring = importlib.import_module("keyring")
        text = keyring.get_password(service, user)
    except ImportError as error:
        raise StateError("the keyring needs the package `keyring`", hint="install `egress[keyring]`") from error
    except Exception as error:  # noqa: BLE001 -- backends raise what they like
        # The kind alone: a backend's message may quote what it was handed.
        raise StateError(f"{place} cannot be read ({type(error).__name__})", hint="unlock the keyring") from None
    if not text:
        raise StateError(f"{place} holds no key", hint=f"`keyring set {service} {user}` takes it")
    return MasterKey.of_text(text, place)

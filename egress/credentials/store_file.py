"""Opening the file of the secret store safely, making it whole or not at all, and saying what is wrong with it.

1. The file is a regular file of our own that nobody else can read, in a folder that nobody else can write.
2. A new store is made beside its place and linked there when it is whole: an empty file is never a new store, it is
   one that was truncated, and it is left as it is.
3. A rollback journal, not a write-ahead log: the store is one file, and after a commit nothing of it is elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from egress.certs.files import opened_folder
from egress.credentials.sealing import FORMAT, STORE_ID_BYTES, Sealer
from egress.credentials.store_schema import migrate
from egress.errors import EgressError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from egress.credentials.master_key import MasterKey

type Identity = tuple[int, int]

# How long one statement waits for another process's lock. A writer holds it for one commit.
LOCK_SECONDS: Final = 10.0
_DAMAGED_HINT: Final = (
    "nothing in it was changed; put a good copy in its place, or move it away and set the secrets anew"
)


def identity(path: Path) -> Identity | None:
    """Device and inode of the file at `path` now; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def damaged(path: Path, what: str = "is damaged, or was changed by another program") -> StateError:
    """The error of a store that must not be used."""
    return StateError(f"the secret store `{path}` {what}", hint=_DAMAGED_HINT)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the store that is there, at the newest schema. Raises StateError."""
    with explained(path):
        _check_ours(path)
        connection = sqlite3.connect(
            _uri(path), uri=True, isolation_level=None, timeout=LOCK_SECONDS, check_same_thread=False
        )
        try:
            _configure(connection)
            migrate(connection, path)
            _check_whole(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def create(path: Path, key: MasterKey) -> None:
    """Make an empty store under `key`, with its folder, unless there is one by now. Raises StateError."""
    with explained(path), opened_folder(path.parent, create=True, option="--state-dir") as folder:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        # O_EXCL: whoever guesses the name cannot have us write through a link of theirs.
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            _fill(temporary, key)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
        os.fsync(folder)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path, kind: str) -> Iterator[None]:
    """All of what is done inside, or nothing. `kind`: DEFERRED to read, IMMEDIATE to write."""
    with explained(path):
        connection.execute(f"BEGIN {kind}")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into a StateError that names the file and says what a person can do."""
    try:
        yield
    except EgressError:
        raise
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        for prefix, sentence, hint in _SENTENCES:
            if name.startswith(prefix):
                raise StateError(f"the secret store `{path}` {sentence}", hint=hint) from error
        raise damaged(path) from error
    except OSError as error:
        raise StateError(f"the secret store `{path}` cannot be used: {error.strerror}") from error


_SENTENCES: Final = (
    ("SQLITE_FULL", "has no room: the disk is full", "free some space, and do it again"),
    ("SQLITE_BUSY", "is locked by another process", "do it again when that is done"),
    ("SQLITE_READONLY", "is read-only, or its folder is", "make both writable for this user"),
    ("SQLITE_CANTOPEN", "cannot be opened", "make it and its folder readable and writable for this user"),
    ("SQLITE_IOERR", "cannot be read or written: input/output error", "check the disk"),
)


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=rw"


def _check_ours(path: Path) -> None:
    with opened_folder(path.parent, create=False, option="--state-dir"):
        pass
    for file in (path, path.with_name(path.name + "-journal")):
        try:
            found = file.lstat()
        except FileNotFoundError:
            if file == path:
                raise
            continue
        if not stat.S_ISREG(found.st_mode):
            raise StateError(f"`{file}` is no regular file", hint="put the file itself there")
        if found.st_uid != os.geteuid():
            raise StateError(f"`{file}` belongs to another user (uid {found.st_uid})", hint="run egress as that user")
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StateError(f"`{file}` is open to other users", hint=f"chmod 600 '{file}'")
        if file == path and found.st_size == 0:
            raise damaged(path, "is empty: it was truncated")


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite reads what is missing of the last page as zeros.
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    if path.lstat().st_size < pages * size or connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        raise damaged(path)


def _configure(connection: sqlite3.Connection) -> None:
    # Whoever could write the file may have put triggers or views into it: they are never run.
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)  # noqa: FBT003 -- sqlite3's own form
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False)  # noqa: FBT003
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_TRUSTED_SCHEMA, False)  # noqa: FBT003
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA journal_mode = DELETE")
    # A commit is on the disk when it returns, the removal of its journal too.
    connection.execute("PRAGMA synchronous = EXTRA")
    # What is replaced is overwritten: an old ciphertext must not lie about for an old key.
    connection.execute("PRAGMA secure_delete = ON")


def _fill(path: Path, key: MasterKey) -> None:
    connection = sqlite3.connect(_uri(path), uri=True, isolation_level=None)
    try:
        _configure(connection)
        migrate(connection, path)
        store_id = secrets.token_bytes(STORE_ID_BYTES)
        row = (1, FORMAT, store_id, key.key_id, Sealer(key, store_id).seal(()))
        connection.execute("INSERT INTO store (number, format, store_id, key_id, seal) VALUES (?, ?, ?, ?, ?)", row)
    finally:
        connection.close()

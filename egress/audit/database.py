"""Opening the audit database safely, knowing whether it is still the same file, and saying what is wrong with it.

The file is a regular file of our own, not writable by others, created with mode 0600; it is never opened through a
symbolic link. SQLite gives `-wal` and `-shm` the same mode.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from egress.audit.schema import migrate, probe
from egress.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

type Identity = tuple[int, int]

# How long one attempt waits for another process' lock.
LOCK_SECONDS = 1.0
_WAL_PAGES = 4000
_WAL_BYTES = 64 * 1024 * 1024


def identity(path: Path) -> Identity | None:
    """Device and inode of the file at `path` now; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def beside(path: Path, suffix: str) -> Path:
    """SQLite's own file beside the database: suffix `-wal` or `-shm`."""
    return path.with_name(path.name + suffix)


def uri(path: Path, mode: str) -> str:
    """The SQLite URI of `path`: any name, also one with `?`, `#` or `%` in it."""
    return f"file:{quote(str(path))}?{mode}"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection ready to append, at the newest schema. Creates the file, and its folder, if there is none.

    Raises AuditError, whose message says what is wrong: not ours, not a database, damaged, newer, not writable.
    """
    try:
        _create_if_missing(path)
        _check_ours(path)
        connection = sqlite3.connect(
            uri(path, "mode=rw"), uri=True, isolation_level=None, timeout=LOCK_SECONDS, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise explain(error, path) from error
    try:
        _configure(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def explain(error: BaseException, path: Path) -> AuditError:
    """`error` as a sentence that names the file and says what a person can do."""
    if isinstance(error, AuditError):
        return error
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        for prefix, sentence, hint in _SENTENCES:
            if name.startswith(prefix):
                return AuditError(sentence.format(path=path, name=name), hint=hint)
        return AuditError(f"the audit database {path} cannot be written ({name}: {error})")
    if isinstance(error, OSError):
        return AuditError(f"the audit database {path} cannot be used: {error.strerror or type(error).__name__}")
    return AuditError(f"the audit database {path} cannot be written ({type(error).__name__})")


_SENTENCES = (
    ("SQLITE_FULL", "the disk of the audit database {path} is full", "free some space; recording goes on by itself"),
    ("SQLITE_BUSY", "another process holds a lock on the audit database {path}", "end that process or its transaction"),
    ("SQLITE_LOCKED", "another process holds a lock on the audit database {path}", "end that process"),
    ("SQLITE_READONLY", "the audit database {path} is read-only, or its folder is", "make both writable for Egress"),
    ("SQLITE_CANTOPEN", "the audit database {path} cannot be opened or created", "make its folder writable for Egress"),
    ("SQLITE_NOTADB", "{path} is not an audit database, or it is damaged", "move it away; a new one is made"),
    ("SQLITE_CORRUPT", "the audit database {path} is damaged", "move it away; a new one is made"),
    ("SQLITE_ERROR", "the audit database {path} lacks a table or column, or is damaged", "move it away"),
    ("SQLITE_IOERR", "the audit database {path} cannot be written: input/output error ({name})", "check the disk"),
)


def _create_if_missing(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # An existing file is never opened here: closing it would drop the locks that SQLite holds in this process.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _check_ours(path: Path) -> None:
    for file in (path, beside(path, "-wal"), beside(path, "-shm"), beside(path, "-journal")):
        try:
            found = file.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise AuditError(f"{file} is not a regular file", hint="name another file with --audit")
        if found.st_uid != os.geteuid():
            raise AuditError(f"{file} belongs to another user (uid {found.st_uid})", hint="run Egress as that user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise AuditError(f"{file} can be written by other users", hint=f"chmod 600 {file}")


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    # Holds for a file that has no table yet: pages that retention frees can go back to the file system.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise AuditError(f"{path} is on a file system without shared memory", hint="put it on a local disk")
    # FULL: a commit is on the disk when it returns, so that a power cut takes no more than kill -9 does. It costs one
    # fsync a flush, in the writer's thread.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    migrate(connection, path)
    with closing(connection.cursor()):
        probe(connection)

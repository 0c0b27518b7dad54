"""The open database of the writer: writes batches into the file that is at its path, and no other.

INVARIANT no-unlinked-file: a batch counts as written only if the file at the path was ours before and after the
commit. Otherwise the database is opened anew, made anew if need be, and the same batch is written there.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from egress.audit.batch import write_batch
from egress.audit.database import beside, explain, identity, open_for_writing
from egress.audit.links import sign_end
from egress.audit.retention import drop_some
from egress.audit.search import index_some
from egress.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

    from egress.audit.batch import Batch
    from egress.audit.database import Identity
    from egress.audit.retention import Retention
    from egress.audit.signing import Signer

# Batches that a checkpoint waits for: at five a second, under half a minute.
_SIGN_EVERY = 100
_TRANSIENT = ("SQLITE_BUSY", "SQLITE_LOCKED")


class Store:
    """One connection, used by one thread at a time. `replaced` counts how often the file was found to be another.

    `signer` signs the chain of batches each so many of them, and when it is closed. `retention` says what `tidy` drops.
    """

    def __init__(self, path: Path, signer: Signer | None = None, retention: Retention | None = None) -> None:
        self.path = path
        self.replaced = 0
        self._signer = signer
        self._retention = retention if retention is not None and retention.bounded else None
        self._unsigned = 0
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[Identity | None, Identity | None] = (None, None)

    def open(self) -> None:
        """Open or create the database. Raises AuditError."""
        self._connection = open_for_writing(self.path)
        self._files = self._files_now()

    def write(self, batch: Batch, time_us: int) -> tuple[str, ...]:
        """Append the batch; gives the ids that were taken by something else. Raises AuditError, to be tried again."""
        try:
            if self._connection is not None and not self._at_path():
                self._leave(time_us)
            if self._connection is None:
                self.open()
            taken = self._append(batch, time_us)
            if not self._at_path():
                self._leave(time_us)
                self.open()
                taken = self._append(batch, time_us)
            if self._unsigned >= _SIGN_EVERY:
                self.sign(time_us)
        except (sqlite3.Error, OSError, AuditError) as error:
            self._after(error)
            raise explain(error, self.path) from error
        return taken

    def close(self) -> None:
        """Close the connection; SQLite moves what is in the WAL into the database and removes the WAL."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def sign(self, time_us: int) -> None:
        """Sign what is recorded and not signed yet. A failure is for the next time: the rows are in."""
        if self._signer is None or self._connection is None or not self._unsigned:
            return
        with contextlib.suppress(sqlite3.Error, AuditError):
            sign_end(self._connection, self._signer, time_us)
            self._unsigned = 0

    def tidy(self, time_us: int) -> int:
        """Drop a slice of what need not be kept; how many rows went. A failure is for the next time."""
        if self._retention is None or self._signer is None or self._connection is None:
            return 0
        with contextlib.suppress(sqlite3.Error):
            return drop_some(self._connection, self._retention, self._signer, time_us)
        return 0

    def index(self) -> int:
        """Put some more of what is recorded into the index; how much. A failure is for the next time."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                return index_some(self._connection)
        return 0

    def _append(self, batch: Batch, time_us: int) -> tuple[str, ...]:
        if self._connection is None:
            raise AuditError(f"the audit database {self.path} is not open")
        taken = write_batch(self._connection, batch, time_us)
        self._unsigned += 1
        return taken

    def _files_now(self) -> tuple[Identity | None, Identity | None]:
        return identity(self.path), identity(beside(self.path, "-wal"))

    def _at_path(self) -> bool:
        """Whether the files that the connection has open are those at the path."""
        now = self._files_now()
        if self._files[1] is None:  # the WAL is made at the first write
            self._files = (self._files[0], now[1])
        return now == self._files

    def _after(self, error: BaseException) -> None:
        """After a failure only a lock leaves the connection trustworthy; anything else is met by opening anew."""
        if not getattr(error, "sqlite_errorname", "").startswith(_TRANSIENT):
            self.close()

    def _leave(self, time_us: int) -> None:
        """Give up a database that was deleted, moved or replaced: it is signed to its end, and has what its WAL had."""
        self.replaced += 1
        self.sign(time_us)
        emptied = self._checkpoint()
        self.close()
        wal = beside(self.path, "-wal")
        if identity(wal) is None or identity(wal) != self._files[1] or identity(self.path) == self._files[0]:
            return
        # The database at the path is another one: SQLite would replay our old WAL into it. What a reader's lock has
        # kept in that WAL is set aside for a person.
        with contextlib.suppress(OSError):
            if emptied:
                wal.unlink()
            else:
                os.replace(wal, beside(self.path, f"-wal.left-{wal.lstat().st_ino}"))  # noqa: PTH105 -- overwrites
            beside(self.path, "-shm").unlink()

    def _checkpoint(self) -> bool:
        if self._connection is None:
            return False
        try:
            (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return False
        return not busy

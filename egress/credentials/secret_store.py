"""The encrypted store of secrets: `secrets.db` in the state folder. `CredentialStore` is what a generation uses of it.

1. Whatever does not open under the key, does not fit its seal or cannot be read is an error, for the whole store:
   nothing of it is used, and nothing is written over it.
2. Each change is one transaction: whoever reads finds the store before it or after it.
3. What another process changes is seen at the next call; `changed` says cheaply whether to call.
4. No method blocks for longer than another process's commit takes, at most ten seconds; none belongs on an event loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from egress.config import Binding, binding_text
from egress.credentials.master_key import MasterKey
from egress.credentials.sealing import Damaged, Record, Sealer
from egress.credentials.secret import Secret
from egress.credentials.sources import storable
from egress.credentials.store_file import connect, create, damaged, identity, transaction
from egress.credentials.stored_rows import Rows
from egress.credentials.stored_secret import Listed, StoredSecret, binding_in, listed
from egress.errors import CredentialError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME: Final = "secrets.db"
# Last use is for people who look for what nobody uses: a minute is near enough, and spares the disk.
_USE_SECONDS: Final = 60

type Keys = Callable[[], Sequence[MasterKey]]


class SecretStore:
    """The store at `path`. Thread-safe; may be carried over a fork. `keys`: the key, or what reads those to try.

    It need not exist yet: each method then raises a StateError, until somebody makes it.
    """

    def __init__(self, path: Path, keys: MasterKey | Keys) -> None:
        self.path = path
        self._keys: Keys = (lambda: (keys,)) if isinstance(keys, MasterKey) else keys
        self._key: MasterKey | None = None
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._file: tuple[int, int] | None = None
        self._seen: int | None = None
        self._noted: dict[str, float] = {}
        # Connections of the process that this one was forked from: to close one here would end that one's locks.
        self._foreign: list[sqlite3.Connection] = []

    @classmethod
    def open(cls, path: Path, keys: MasterKey | Keys) -> Self:
        """The store that is there, checked. Raises StateError: missing, wrong key, damaged, newer."""
        store = cls(path, keys)
        try:
            store.list()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def create(cls, path: Path, key: MasterKey) -> Self:
        """An empty store, made now unless there is one; checked."""
        create(path, key)
        return cls.open(path, key)

    @property
    def key(self) -> MasterKey | None:
        """The key that the store was found to be written with; None before the first call."""
        return self._key

    def __repr__(self) -> str:
        return f"<SecretStore {self.path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The next call opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def get(self, name: str) -> StoredSecret:
        """The secret as it is now. Raises StateError, or CredentialError if there is none of this name."""
        with self._rows("DEFERRED") as (rows, sealer):
            record = rows.record(name)
            if record is None:
                raise _missing(name)
            return StoredSecret(Secret(name, self._value(sealer, record)), binding_in(record), record.version)

    def list(self) -> tuple[Listed, ...]:
        """What may be shown of each secret, by name; it is authenticated, but for the last use."""
        with self._rows("DEFERRED") as (rows, _):
            uses = rows.uses()
            return tuple(listed(record, uses.get(record.name)) for record in rows.records)

    def changed(self) -> bool:
        """Whether anything may have changed since the last call that read or wrote. Never raises."""
        with self._lock:
            try:
                if self._connection is None or self._process != os.getpid() or identity(self.path) != self._file:
                    return True
                return self._data_version(self._connection) != self._seen
            except sqlite3.Error:
                return True

    def put(self, name: str, value: Secret, binding: Binding | None = None) -> Listed:
        """Keep a new secret, or a new value of one; `binding` None keeps the one that it has.

        Raises CredentialError for a value that cannot be kept, or a new secret without a binding.
        """
        storable(name, value.reveal(), "the value")
        with self._rows("IMMEDIATE") as (rows, sealer):
            old = rows.record(name)
            if old is None and binding is None:
                raise CredentialError(f"the secret `{name}` is new, and bound to no host", hint="name its hosts")
            text = old.binding if binding is None and old is not None else binding_text(binding or Binding(()))
            now = time.time_ns() // 1_000
            version, created = (1, now) if old is None else (old.version + 1, old.created_us)
            record = sealer.encrypt(name, version, text, created, now, value.reveal())
            rows.keep(record, sealer)
            return listed(record, rows.uses().get(name))

    def rotate(self, name: str, value: Secret) -> Listed:
        """Replace the value of a secret that is there; its binding stays. Raises CredentialError if there is none."""
        with self._lock:
            if all(known.name != name for known in self.list()):
                raise _missing(name)
            return self.put(name, value)

    def remove(self, name: str) -> None:
        """Forget a secret. Raises CredentialError if there is none of this name."""
        with self._rows("IMMEDIATE") as (rows, sealer):
            if rows.record(name) is None:
                raise _missing(name)
            rows.drop(name, sealer)

    def rekey(self, key: MasterKey) -> None:
        """Encrypt everything anew under another key, at once: before, the old key opens the store, after, this one."""
        with self._rows("IMMEDIATE") as (rows, sealer):
            new = Sealer(key, rows.store_id)
            rows.replace_all([_again(record, self._value(sealer, record), new) for record in rows.records], key, new)
        self._key = key

    def used(self, name: str, when: float) -> None:
        """Note that the secret was used, at most once a minute. Never raises: a use is not refused for this."""
        with self._lock:
            if when < self._noted.get(name, 0.0) + _USE_SECONDS:
                return
            self._noted[name] = when
            try:
                with transaction(self._open(), self.path, "IMMEDIATE"):
                    self._open().execute(
                        "INSERT INTO uses (name, at) SELECT name, ? FROM secrets WHERE name = ? "
                        "ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE excluded.at > at",
                        (int(when), name),
                    )
            except StateError as error:
                logger.warning("the use of secret `%s` was not noted: %s", name, error.message)

    # what the methods share

    @contextlib.contextmanager
    def _rows(self, kind: str) -> Iterator[tuple[Rows, Sealer]]:
        """The rows, checked, in one transaction. Raises StateError for a store that must not be used."""
        with self._lock:
            connection = self._open()
            with transaction(connection, self.path, kind):
                rows = Rows(connection, self.path)
                # Here, not after the end: what somebody else commits right then must still count as a change.
                self._seen = self._data_version(connection)
                yield rows, self._checked(rows)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._process != os.getpid():
            self._foreign.append(self._connection)
            self._connection = None
        file = identity(self.path)
        if file is None:
            self.close()
            raise StateError(
                f"there is no secret store `{self.path}`", hint="`egress secret set NAME --host HOST` makes it"
            )
        if self._connection is None or file != self._file:
            self.close()
            self._connection, self._process, self._file = connect(self.path), os.getpid(), file
        return self._connection

    def _checked(self, rows: Rows) -> Sealer:
        """What opens these rows. Raises StateError: wrong key, or damaged."""
        if self._key is None or self._key.key_id != rows.key_id:
            candidates = self._keys()
            self._key = next((key for key in candidates if key.key_id == rows.key_id), None)
            if self._key is None:
                # Of a changed `key_id` it would be wrong to say that the key is another one.
                if any(rows.opens_under(key) for key in candidates):
                    raise damaged(self.path)
                raise StateError(
                    f"the secret store `{self.path}` was written with another key than this one",
                    hint="give the key that it was written with; nothing in it was changed",
                )
        sealer = Sealer(self._key, rows.store_id)
        try:
            sealer.check(rows.records, rows.seal)
        except Damaged:
            raise damaged(self.path) from None
        return sealer

    def _value(self, sealer: Sealer, record: Record) -> str:
        try:
            return sealer.decrypt(record)
        except Damaged:
            raise damaged(self.path) from None

    @staticmethod
    def _data_version(connection: sqlite3.Connection) -> int:
        (number,) = connection.execute("PRAGMA data_version").fetchone()
        return int(number)


def _missing(name: str) -> CredentialError:
    hint = f"`egress secret set {name} --host HOST` keeps one; `egress secret list` shows those there are"
    return CredentialError(f"the store has no secret `{name}`", hint=hint)


def _again(record: Record, value: str, sealer: Sealer) -> Record:
    return sealer.encrypt(record.name, record.version, record.binding, record.created_us, record.rotated_us, value)

"""The rows of the secret store inside one transaction: read once, changed together with their seal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.credentials.sealing import Damaged, Record, Sealer
from egress.credentials.store_file import damaged
from egress.credentials.store_schema import check_format

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from egress.credentials.master_key import MasterKey

_COLUMNS: Final = "name, version, binding, created_us, rotated_us, nonce, ciphertext"
_INSERT: Final = f"INSERT OR REPLACE INTO secrets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 -- constants


class Rows:
    """The store's own row and its records, by name. Nothing here is checked but the types."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        own = connection.execute("SELECT format, store_id, key_id, seal FROM store").fetchall()
        if len(own) != 1:
            raise damaged(path)
        (number, self.store_id, self.key_id, self.seal) = own[0]
        check_format(number, path)
        connection.execute("SELECT name, at FROM uses LIMIT 1").fetchone()
        rows = connection.execute(f"SELECT {_COLUMNS} FROM secrets ORDER BY name").fetchall()  # noqa: S608 -- constants
        self.records: tuple[Record, ...] = tuple(Record(*row) for row in rows)
        kinds = (str, int, str, int, int, bytes, bytes)
        if not all(isinstance(value, kind) for row in rows for value, kind in zip(row, kinds, strict=True)):
            raise damaged(path)

    def record(self, name: str) -> Record | None:
        """The record of this name."""
        return next((record for record in self.records if record.name == name), None)

    def uses(self) -> dict[str, int]:
        """When each was last used, in seconds since 1970; not authenticated."""
        return dict(self._connection.execute("SELECT name, at FROM uses").fetchall())

    def opens_under(self, key: MasterKey) -> bool:
        """Whether the seal, or any record, was made with this key."""
        sealer = Sealer(key, self.store_id)
        try:
            sealer.check(self.records, self.seal)
        except Damaged:
            return any(_opens(sealer, record) for record in self.records)
        return True

    def keep(self, record: Record, sealer: Sealer) -> None:
        """Write one record in place of the one of its name."""
        self._insert([record])
        self._seal(sealer, [*(other for other in self.records if other.name != record.name), record])

    def drop(self, name: str, sealer: Sealer) -> None:
        """Remove one record, and when it was used."""
        self._connection.execute("DELETE FROM secrets WHERE name = ?", (name,))
        self._connection.execute("DELETE FROM uses WHERE name = ?", (name,))
        self._seal(sealer, [other for other in self.records if other.name != name])

    def replace_all(self, records: Sequence[Record], key: MasterKey, sealer: Sealer) -> None:
        """Write all records anew, under another key."""
        self._insert(records)
        self._connection.execute("UPDATE store SET key_id = ?", (key.key_id,))
        self._seal(sealer, records)

    def _insert(self, records: Iterable[Record]) -> None:
        rows = [
            (one.name, one.version, one.binding, one.created_us, one.rotated_us, one.nonce, one.ciphertext)
            for one in records
        ]
        self._connection.executemany(_INSERT, rows)

    def _seal(self, sealer: Sealer, records: Iterable[Record]) -> None:
        self._connection.execute("UPDATE store SET seal = ?", (sealer.seal(records),))


def _opens(sealer: Sealer, record: Record) -> bool:
    try:
        sealer.decrypt(record)
    except Damaged:
        return False
    return True

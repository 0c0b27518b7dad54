"""The schema of the secret store and its migrations.

1. `PRAGMA application_id` says that a file is a secret store; `PRAGMA user_version` is its schema version.
2. A file with an older version is migrated forward when it is opened, in one transaction: all or nothing.
3. A file with a newer version, or of another program, is refused and left as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.credentials.sealing import FORMAT
from egress.errors import StateError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlite_utils import Database

type Migration = Callable[[Database], None]

APPLICATION_ID: Final = 0x45475253  # "EGRS"


def first_schema(database: Database) -> None:
    """Version 1: the store's own row, the secrets, and when each was last used, which is not authenticated."""
    database.create_table(
        "store",
        {"number": int, "format": int, "store_id": bytes, "key_id": bytes, "seal": bytes},
        pk="number",
        not_null={"format", "store_id", "key_id", "seal"},
        strict=True,
    )
    database.create_table(
        "secrets",
        {
            "name": str,
            "version": int,
            "binding": str,
            "created_us": int,
            "rotated_us": int,
            "nonce": bytes,
            "ciphertext": bytes,
        },
        pk="name",
        not_null={"name", "version", "binding", "created_us", "rotated_us", "nonce", "ciphertext"},
        strict=True,
    )
    database.create_table("uses", {"name": str, "at": int}, pk="name", not_null={"name", "at"}, strict=True)


MIGRATIONS: tuple[Migration, ...] = (first_schema,)


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] | None = None) -> None:
    """Bring the file to the newest schema, in one transaction; another process may be doing the same."""
    steps = MIGRATIONS if migrations is None else migrations
    if _version_of(connection, path, len(steps)) == len(steps):
        return
    from sqlite_utils import Database  # noqa: PLC0415 -- 0.2 s that only the first use and an upgrade need

    connection.execute("BEGIN IMMEDIATE")
    try:
        database = Database(connection, execute_plugins=False)
        for number in range(_version_of(connection, path, len(steps)), len(steps)):
            steps[number](database)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_format(number: int, path: Path) -> None:
    """Raise StateError for records that a newer version wrote."""
    if number != FORMAT:
        raise StateError(
            f"the secret store `{path}` has records of format {number}, which this Egress does not know",
            hint="use the version that wrote it; this one changes nothing in it",
        )


def _version_of(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """The schema version of the file; 0 for an empty database. A foreign or newer one is a StateError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (objects or version or application):
        raise StateError(
            f"`{path}` is a database, but not a secret store", hint="move it away, or name another state folder"
        )
    if version > newest:
        raise StateError(
            f"the secret store `{path}` was written by a newer Egress (schema {version}, this one knows {newest})",
            hint="use that version; this one changes nothing in it",
        )
    return int(version)

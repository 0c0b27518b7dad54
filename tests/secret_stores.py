"""A secret store in a folder of its own, for tests: with a key, some secrets, and the file's rows to meddle with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from egress.config import Binding, read_binding
from egress.credentials import Secret
from egress.credentials.master_key import MasterKey
from egress.credentials.secret_store import FILE_NAME, SecretStore

if TYPE_CHECKING:
    from pathlib import Path

KEY = MasterKey(bytes(range(32)))
OTHER_KEY = MasterKey(bytes(range(1, 33)))
GITHUB = read_binding(["api.github.com"], ["GET", "POST"], ["/repos/**"])
MODEL = read_binding(["api.example.com", "*.models.example:8443"])


def made(folder: Path, key: MasterKey = KEY) -> SecretStore:
    """Make a store with two secrets, in a folder below this one."""
    store = SecretStore.create(folder / "state" / FILE_NAME, key)
    put(store, "github", "canary-github-1", GITHUB)
    put(store, "model", "canary-model-1", MODEL)
    return store


def put(store: SecretStore, name: str, value: str, binding: Binding | None = None) -> None:
    """Put a value given as text."""
    store.put(name, Secret(name, value), binding)


def value(store: SecretStore, name: str = "github") -> str:
    """Give a value as text."""
    return store.get(name).value.reveal()


def kept(path: Path, name: str = "github", key: MasterKey = KEY) -> str:
    """Give a value as text, from a store that is opened for it."""
    with SecretStore.open(path, key) as store:
        return value(store, name)


def meddle(path: Path, statement: str, *values: object) -> None:
    """Change the file as another program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def row(path: Path, name: str) -> tuple[object, ...]:
    """Give a secret's row as it is stored."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT * FROM secrets WHERE name = ?", (name,)).fetchone()
    assert found is not None
    return tuple(found)


def own(path: Path, column: str) -> bytes:
    """Give a value of the store's own row."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(f"SELECT {column} FROM store").fetchone()  # noqa: S608 -- a test's
    assert isinstance(found, bytes)
    return found

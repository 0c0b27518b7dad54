"""What becomes of stored secrets while the proxy runs is in the record: by name, never by value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import ServerOverrides, load_server_config, read_binding
from egress.credentials import Secret
from egress.credentials.secret_store import FILE_NAME, SecretStore
from egress.gate.fetching import secret_store
from egress.server.secret_changes import STORE_NAME, SecretChanges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from egress.config import ServerConfig

CANARY = "canary-5f1e9a7c"


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    """A proxy's, whose store is not there yet."""
    overrides = ServerOverrides(state_dir=tmp_path / "state", secrets_key_file=tmp_path / "key" / "secrets.key")
    return load_server_config(None, overrides, {})


@pytest.fixture
def store(config: ServerConfig) -> Iterator[SecretStore]:
    """The store as `egress secret` opens it."""
    from egress.credentials.configured_store import configured_keys, configured_path

    keys = configured_keys(config, {})
    SecretStore.create(configured_path(config), keys.made()).close()
    opened = SecretStore(configured_path(config), configured_keys(config, {}))
    yield opened
    opened.close()
    secret_store(config).close()


def test_the_store_is_looked_for_where_it_is() -> None:
    """One name for one file."""
    assert STORE_NAME == FILE_NAME


def test_each_change_is_noted_once(config: ServerConfig, store: SecretStore) -> None:
    """Set, rotated, removed; what was there before the proxy is no news."""
    noted: list[tuple[str, str]] = []
    binding = read_binding(["api.example.com"])
    store.put("old", Secret("old", CANARY), binding)
    changes = SecretChanges(config, lambda kind, detail: noted.append((str(kind), detail)))
    changes.look()
    assert noted == []
    store.put("new", Secret("new", CANARY), binding)
    changes.look()
    changes.look()
    store.put("old", Secret("old", CANARY + "2"))
    changes.look()
    store.remove("new")
    changes.look()
    assert noted == [
        ("secret-set", "new; by `egress secret`"),
        ("secret-rotated", "old; by `egress secret`"),
        ("secret-removed", "new; by `egress secret`"),
    ]
    assert CANARY not in str(noted)


def test_a_store_that_comes_later_is_seen(config: ServerConfig, request: pytest.FixtureRequest) -> None:
    """The first `egress secret set` may come while the proxy runs; a damaged file is no change."""
    noted: list[str] = []
    changes = SecretChanges(config, lambda kind, _: noted.append(str(kind)))
    changes.look()
    store: SecretStore = request.getfixturevalue("store")
    store.put("first", Secret("first", CANARY), read_binding(["api.example.com"]))
    changes.look()
    assert noted == ["secret-set"]
    store.close()
    (config.state_dir / STORE_NAME).write_bytes(b"no database")
    changes.look()
    assert noted == ["secret-set"]

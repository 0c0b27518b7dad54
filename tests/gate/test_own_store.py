"""Our own store as a source: what is in it now, with its binding, and what is written back to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import ServerOverrides, load_server_config, read_binding
from egress.config.secret_sources import StoreSource
from egress.credentials import Secret
from egress.credentials.configured_store import configured_keys, configured_path
from egress.credentials.secret_store import SecretStore
from egress.errors import EgressError
from egress.gate.fetching import own_store, secret_store, take_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from egress.config import ServerConfig

KEY = "A" * 43 + "="


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    """A proxy with a folder of its own."""
    overrides = ServerOverrides(state_dir=tmp_path / "state", secrets_key_file=tmp_path / "key" / "secrets.key")
    return load_server_config(None, overrides, {})


@pytest.fixture
def store(config: ServerConfig) -> Iterator[SecretStore]:
    """The store, as another process has it open."""
    SecretStore.create(configured_path(config), configured_keys(config, {}).made()).close()
    opened = SecretStore(configured_path(config), configured_keys(config, {}))
    yield opened
    opened.close()
    secret_store(config).close()


def test_what_is_read_is_what_is_there_now(config: ServerConfig, store: SecretStore) -> None:
    """A value that another process puts in takes the place of the old one; its use is noted there."""
    store.put("mail", Secret("mail", "first-value"), read_binding(["api.mail.example"], ["GET"], ["/v1/**"]))
    own = own_store(config)
    found = own.read("mail")
    assert (found.value.reveal(), found.hosts, found.methods, found.paths) == (
        "first-value",
        ("api.mail.example",),
        ("GET",),
        ("/v1/**",),
    )
    store.put("mail", Secret("mail", "second-value"))
    assert own.read("mail").value.reveal() == "second-value"
    (listed,) = store.list()
    assert listed.used is not None
    with pytest.raises(EgressError, match="missing"):
        own.read("missing")


def test_what_a_service_gives_for_the_next_time_is_written_back(config: ServerConfig, store: SecretStore) -> None:
    """Under the binding that it had."""
    store.put("refresh", Secret("refresh", "used-up-token"), read_binding(["login.example"]))
    own_store(config).renew(StoreSource("refresh"), Secret("refresh", "the-next-token"))
    found = store.get("refresh")
    assert (found.value.reveal(), found.hosts, found.version) == ("the-next-token", ("login.example",), 2)


def test_a_key_in_a_variable_is_taken_out_of_the_environment(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before anything is started that would inherit it."""
    import os

    monkeypatch.setenv("EGRESS_SECRETS_KEY", KEY)
    keyed = load_server_config(None, ServerOverrides(state_dir=tmp_path / "other"), os.environ)
    take_key(keyed)
    assert "EGRESS_SECRETS_KEY" not in os.environ
    assert config.state_dir != keyed.state_dir

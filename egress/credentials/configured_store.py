"""The secret store and its key, where configuration says they are. Once a process: a variable is read but once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from egress import config as configuration
from egress.credentials.key_sources import KeyReader
from egress.credentials.secret_store import FILE_NAME, SecretStore

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from egress.config import ServerConfig


def configured_keys(config: ServerConfig, env: MutableMapping[str, str]) -> KeyReader:
    """What reads the store's key. A variable that has it is taken out of `env` here. Raises StateError."""
    source = config.secrets_key or configuration.default_key_source(env, user=os.geteuid())
    return KeyReader(source, state_dir=config.state_dir, env=env)


def configured_path(config: ServerConfig) -> Path:
    """The file of the store."""
    return config.state_dir / FILE_NAME


def configured_store(config: ServerConfig, env: MutableMapping[str, str]) -> SecretStore:
    """The store, whether it is there yet or not. Raises StateError for a key that is none."""
    return SecretStore(configured_path(config), configured_keys(config, env))

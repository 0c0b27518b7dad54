"""Where the secret store and its key are, by options and configuration, and the store opened there."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from egress.config import SecretDefinition
    from egress.credentials.key_sources import KeyReader
    from egress.credentials.secret_store import SecretStore


@dataclass(init=False, slots=True)
class Places:
    """The state folder, the store, and its key's source. Raises ConfigError, or StateError for a key that is none."""

    state_dir: Path
    store: Path
    keys: KeyReader
    configured: Mapping[str, SecretDefinition]

    def __init__(
        self, state_dir: Path | None, key_file: Path | None, config: Path | None, policies: Sequence[str] = ()
    ) -> None:
        from egress.cli.placeholder_variables import definitions_of  # noqa: PLC0415
        from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415 -- `egress --help` needs none
        from egress.credentials import forbid_dumps  # noqa: PLC0415
        from egress.credentials.configured_store import configured_keys, configured_path  # noqa: PLC0415

        forbid_dumps()
        overrides = ServerOverrides(state_dir=state_dir, secrets_key_file=key_file, policies=tuple(policies))
        server = load_server_config(config, overrides, os.environ)
        self.state_dir = server.state_dir
        self.store = configured_path(server)
        self.configured = definitions_of(server)
        self.keys = configured_keys(server, os.environ)


@contextmanager
def opened(places: Places, *, create: bool) -> Iterator[tuple[SecretStore, KeyReader]]:
    """The store, and what reads its key; both made at the first use, on `create`. Raises StateError."""
    from egress.credentials.secret_store import SecretStore  # noqa: PLC0415

    if create and not os.path.lexists(places.store):
        SecretStore.create(places.store, places.keys.made()).close()
    with SecretStore.open(places.store, places.keys) as store:
        yield store, places.keys

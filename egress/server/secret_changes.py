"""Notes in the audit what becomes of stored secrets while the proxy runs: set, rotated, removed by `egress secret`.

It looks at the file's signature every few seconds, and reads the names and versions only after a change; never values.
A store that cannot be read says so where its secrets are needed, and here nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from egress.audit.notes import secrets_changed
from egress.errors import EgressError

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.config import ServerConfig

_LOOK_SECONDS: Final = 3.0
_WHO: Final = "`egress secret`"
STORE_NAME: Final = "secrets.db"

type _Signature = tuple[int, int, int] | None


class SecretChanges:
    """What was seen of one store. `note` records a kind and a detail."""

    def __init__(self, config: ServerConfig, note: Callable[[str, str], object]) -> None:
        self._config = config
        self._note = note
        self._signature: _Signature = None
        self._versions: dict[str, int] = {}
        self._began = False

    async def watch(self) -> None:
        """Look, again and again, until it is cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Note what has changed since the last look; the first one only learns what there is."""
        signature = self._signed()
        if self._began and signature == self._signature:
            return
        with contextlib.suppress(EgressError, OSError):
            versions = {} if signature is None else _versions(self._config)
            if self._began:
                for kind, detail in secrets_changed(self._versions, versions, _WHO):
                    self._note(kind, detail)
            self._versions, self._signature, self._began = versions, signature, True

    def _signed(self) -> _Signature:
        try:
            state = (self._config.state_dir / STORE_NAME).stat()
        except OSError:
            return None
        return state.st_ino, state.st_size, state.st_mtime_ns


def _versions(config: ServerConfig) -> dict[str, int]:
    from egress.gate.fetching import secret_store  # noqa: PLC0415 -- most proxies have no store

    return {one.name: one.version for one in secret_store(config).list()}

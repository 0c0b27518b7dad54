"""The key of a state folder from which placeholders are made: 32 random bytes, mode 0600, written once.

It is no secret's key: who has it can tell what placeholders are. Without it a restart would make other ones, and what
the sandbox holds would stand for nothing.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from egress.certs import files
from egress.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "placeholder.key"
_LOCK: Final = ".placeholder.lock"
_BYTES: Final = 32


def placeholder_key(state_dir: Path) -> bytes:
    """The key of this state folder, made at its first use. Raises StateError if it cannot be had, or not trusted."""
    path = state_dir / NAME
    try:
        with files.opened_folder(state_dir, create=True) as folder:
            if not files.exists(folder, NAME):
                with files.locked(folder, _LOCK):
                    if not files.exists(folder, NAME):
                        files.replace(folder, NAME, secrets.token_bytes(_BYTES), mode=0o600)
            key = files.read_private(folder, path)
    except OSError as error:
        raise StateError(f"cannot make `{path}`: {error.strerror}", hint="name a folder that can be written") from error
    if len(key) != _BYTES:
        raise StateError(f"`{path}` is damaged", hint="remove it: placeholders are then made anew")
    return key

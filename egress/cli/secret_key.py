"""What `egress secret rekey` does with each source of a key: in place for a file, else to a file that is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config import KeyFile
from egress.credentials.key_sources import KeyReader, refuse_inside, rekey_in_place
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from egress.credentials.secret_store import SecretStore


def replace_key(store: SecretStore, keys: KeyReader, new_file: Path | None, state_dir: Path) -> Iterator[str]:
    """Do it, and say what was done and what is left to do. Raises StateError."""
    source = keys.source
    if new_file is not None:
        refuse_inside(new_file, state_dir)
        key = KeyReader(KeyFile(new_file), state_dir=state_dir, env={}).made()
        if key == store.key:
            raise StateError(f"`{new_file}` holds the key that the store has already", hint="name another file")
        store.rekey(key)
        yield f"the secrets are encrypted under the key in {new_file}; name that from now on, and remove the old one"
    elif isinstance(source, KeyFile):
        rekey_in_place(store, source.path)
        yield f"the secrets are encrypted under a new key, in {source.path}; a proxy that runs takes it over by itself"
    else:
        hint = "name a file for it with --new-key-file, and configure that, or bring its content to where the key is"
        raise StateError("the key of the store is in no file, so a new one cannot be put there", hint=hint)

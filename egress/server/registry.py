"""The registry: the sandboxes that were registered at run time, kept in the state folder for the next start.

1. It holds hashes of tokens, never a token, and is the proxy's own user's alone.
2. It is replaced as a whole; what is damaged, or anybody else could have written, stops the start: without it a client
   that must be nobody could be everybody.
3. There being one, also an empty one, says that clients are told apart (see `egress.gate.roster`).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from egress.config import SandboxDefinition, label_problem, name_problem, uid_problem
from egress.errors import StateError
from egress.policy import Sandbox, TargetError, parse_network

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from egress.policy import Network

NAME: Final = "sandboxes.json"
_STAGED: Final = "sandboxes.json.new"
_FORMAT: Final = 1
# With users, which a reader that knows none of them would take for anybody.
_FORMAT_WITH_USERS: Final = 2
_MOST_BYTES: Final = 128 * 1024 * 1024
_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_HASH_BYTES: Final = 32


def read_registry(state_dir: Path) -> tuple[SandboxDefinition, ...] | None:
    """What is registered; None: there never was a sandbox. Raises StateError for what must not be used."""
    path = state_dir / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size > _MOST_BYTES:
            raise _unusable(path, "is no file of ours")
        # INVARIANT out-of-the-sandbox's-reach: who could have written it could have let anybody in.
        if state.st_uid != os.geteuid() or state.st_mode & _OPEN_TO_OTHERS:
            raise _unusable(path, "can be read or written by other users")
        data = file.read(_MOST_BYTES)
    try:
        values = json.loads(data)
        if values["format"] not in {_FORMAT, _FORMAT_WITH_USERS}:
            raise _unusable(path, "was written by another version of egress")
        return tuple(_definition(item) for item in values["sandboxes"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _unusable(path, "is damaged") from error


def write_registry(state_dir: Path, sandboxes: Iterable[SandboxDefinition]) -> None:
    """Replace what is kept. Raises OSError, and then what was kept is as it was."""
    kept = [_plain(own) for own in sandboxes]
    known = _FORMAT_WITH_USERS if any(own["uids"] for own in kept) else _FORMAT
    values = {"format": known, "sandboxes": kept}
    staged = state_dir / _STAGED
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(staged, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(state_dir / NAME)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_sources(texts: Iterable[str]) -> tuple[Network, ...]:
    """Ranges as they are written. Raises ValueError with the first that is none."""
    found: list[Network] = []
    for text in texts:
        network = parse_network(text)
        if isinstance(network, TargetError):
            raise ValueError(f"{network.message}, {network.hint}")  # noqa: TRY004 - what is wrong is what it says
        found.append(network)
    return tuple(found)


def _plain(own: SandboxDefinition) -> dict[str, Any]:
    return {
        "name": own.name,
        "labels": dict(own.sandbox.labels),
        "sources": [str(source) for source in own.sources],
        "uids": list(own.uids),
        "token": (own.token or b"").hex(),
        "session": own.session,
        "expires": own.expires,
    }


def _definition(item: dict[str, Any]) -> SandboxDefinition:
    name, labels, token = item["name"], item["labels"], bytes.fromhex(item["token"])
    expires = item["expires"]
    uids = tuple(item.get("uids", ()))
    wrong = [name_problem(name), *(label_problem(key, value) for key, value in labels.items()), *map(uid_problem, uids)]
    if any(wrong) or len(token) != _HASH_BYTES or not isinstance(item["session"], str):
        raise ValueError(name)
    return SandboxDefinition(
        sandbox=Sandbox(name, tuple(labels.items())),
        sources=read_sources(item["sources"]),
        token=token,
        registered=True,
        session=item["session"],
        expires=None if expires is None else float(expires),
        uids=uids,
    )


def _unusable(path: Path, why: str) -> StateError:
    hint = (
        "mend it, or remove it: then nobody is registered, and clients are told apart only if the configuration says so"
    )
    return StateError(f"`{path}` {why}", hint=hint)

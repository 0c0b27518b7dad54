"""The last good policy: the texts that the policy in force was loaded from, kept for a start whose files do not load.

1. kept   after a policy is in force, whole or not at all; what cannot be kept takes the older one away with it, since
          a policy that is no longer the last must not come back
2. used   for the same list of files only, never for others that happen to be broken
3. trust  what is read back was written by the proxy's own user, is open to nobody else, and is not damaged; the
          policy that it gives has the digest that it had (see `egress.server.begin`)

Values of secrets are not among it: texts define secrets, values are elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.config.recorded import absolute
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import PolicySource

FOLDER: Final = "last-good"
_NAME: Final = "policy.json"
_STAGED: Final = "policy.json.new"
_FORMAT: Final = 1
# More than the loader takes in all its files together would be, in a policy that anybody has.
_MOST_BYTES: Final = 512 * 1024 * 1024
_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

type Sources = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What was in force: the scope and absolute path of each policy file, all texts, the digest, and since when.

    `moment` is in seconds since the epoch.
    """

    sources: Sources
    texts: Mapping[Path, str]
    digest: str
    moment: float


def sources_of(policies: tuple[PolicySource, ...]) -> Sources:
    """What tells one list of policy files from another."""
    return tuple((source.scope.value, str(absolute(source.path))) for source in policies)


def stage(state_dir: Path, sources: Sources, contents: Mapping[Path, bytes], digest: str) -> None:
    """Write what is about to be in force beside what is kept. Raises OSError."""
    texts = {str(path): data.decode("utf-8") for path, data in contents.items()}
    values = {"format": _FORMAT, "moment": time.time(), "digest": digest, "sources": sources, "texts": texts}
    body = json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8")
    folder = _open_folder(state_dir, create=True)
    try:
        _unlink(folder, _STAGED)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(_STAGED, flags, 0o600, dir_fd=folder), "wb") as file:
                file.write(f"sha256 {hashlib.sha256(body).hexdigest()}\n".encode() + body)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # A part of it must not be taken for it.
            _unlink(folder, _STAGED)
            raise
    finally:
        os.close(folder)


def keep(state_dir: Path) -> None:
    """What was staged is in force: from now on it is what is kept. Raises OSError."""
    folder = _open_folder(state_dir, create=False)
    try:
        os.rename(_STAGED, _NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(folder)


def drop(state_dir: Path) -> None:
    """Keep nothing. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        folder = _open_folder(state_dir, create=False)
        try:
            _unlink(folder, _NAME)
            _unlink(folder, _STAGED)
            os.fsync(folder)
        finally:
            os.close(folder)


def find(state_dir: Path, sources: Sources) -> Kept | None:
    """What is kept of these files; None: nothing. Raises StateError for what must not be used."""
    path = state_dir / FOLDER / _NAME
    try:
        folder = _open_folder(state_dir, create=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"`{path.parent}` cannot be read: {error.strerror}") from error
    try:
        _check_state(state_dir)
        _check(path.parent, os.fstat(folder))
        data = _read(path, folder)
    finally:
        os.close(folder)
    if data is None:
        return None
    kept = _parsed(path, data)
    if kept.sources != sources:
        raise StateError(f"`{path}` was kept of other policy files than those that are named now")
    return kept


def _read(path: Path, folder: int) -> bytes | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path.name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"`{path}` cannot be read: {error.strerror}") from error
    try:
        state = os.fstat(descriptor)
        _check(path, state)
        if not stat.S_ISREG(state.st_mode) or state.st_size > _MOST_BYTES:
            raise StateError(f"`{path}` is no file of ours")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise StateError(f"`{path}` cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _parsed(path: Path, data: bytes) -> Kept:
    head, _, body = data.partition(b"\n")
    if head != f"sha256 {hashlib.sha256(body).hexdigest()}".encode():
        raise StateError(f"`{path}` is damaged")
    try:
        values = json.loads(body)
        if values["format"] != _FORMAT:
            raise StateError(f"`{path}` was written by another version of egress")
        return Kept(
            sources=tuple((str(scope), str(name)) for scope, name in values["sources"]),
            texts={Path(name): str(text) for name, text in values["texts"].items()},
            digest=str(values["digest"]),
            moment=float(values["moment"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StateError(f"`{path}` is damaged") from error


def _check(path: Path, state: os.stat_result) -> None:
    # INVARIANT out-of-the-sandbox's-reach: who could have written it could have chosen the policy.
    if state.st_uid != os.geteuid():
        raise StateError(f"`{path}` belongs to user {state.st_uid}, not to the proxy's user {os.geteuid()}")
    if state.st_mode & _OPEN_TO_OTHERS:
        raise StateError(f"`{path}` is open to other users (mode {stat.S_IMODE(state.st_mode):04o})")


def _check_state(state_dir: Path) -> None:
    """Who may replace the folder could put back what was in force long ago."""
    state = state_dir.stat()
    if state.st_uid not in {0, os.geteuid()} or state.st_mode & stat.S_IWOTH:
        raise StateError(f"the state folder `{state_dir}` can be changed by other users")


def _open_folder(state_dir: Path, *, create: bool) -> int:
    path = state_dir / FOLDER
    if create:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _unlink(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)

"""Unix sockets of other programs that the command could still see, after the folders where most of them are emptied.

A socket that starts to listen later, outside those folders and the ones named here, is not found: docs/guides/exec.md
says so. Abstract sockets need nothing: they belong to a network namespace, and the command's has none but its own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.confine.exec_mounts import MEETING_PLACES
from egress.confine.exec_plan import ConfineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TABLE: Final = Path("/proc/net/unix")
# The seven fields before a socket's path (proc_net(5) calls the file `unix`).
_FIELDS_BEFORE: Final = 7
# Of programs that run in another network namespace, or start later: folders whole, since only agents are in them.
_FOLDERS: Final = (
    ".ssh/agent",
    ".docker/run",
    ".docker/desktop",
    ".colima",
    ".rd",
    ".1password",
    ".lima",
    ".local/share/containers/podman/machine",
)
_NAMES: Final = (".gnupg/S.*", ".bitwarden-ssh-agent.sock")
_ELSEWHERE: Final = (Path("/mnt/wslg"), Path("/mnt/wsl"))


def foreign_sockets(home: Path, kept: Iterable[Path], allowed: Iterable[Path], table: str | None = None) -> list[Path]:
    """What to hide: sockets, and folders of sockets. `kept` is shown of folders that are empty; `allowed` stays.

    `table`: the text of /proc/net/unix.
    """
    known = [home / name for name in _FOLDERS] + [path for name in _NAMES for path in home.glob(name)]
    found = dict.fromkeys((*_bound(table), *(path for path in (*known, *_ELSEWHERE) if os.path.lexists(path))))
    stays = {Path(os.path.realpath(path)) for path in allowed}
    shown = tuple(kept)
    return [path for path in map(_real, found) if _visible(path, shown) and not stays & {path, *_below(path, stays)}]


def _bound(table: str | None) -> Iterator[Path]:
    """Sockets that were made where they are, and all others of the same folders.

    A socket keeps the name that it was made with: ssh makes that of a shared connection under another one, and renames
    it, so that it is never there half made.
    """
    text = _read() if table is None else table
    rows = (line.split(None, _FIELDS_BEFORE)[_FIELDS_BEFORE:] for line in text.split("\n"))
    paths = [row[0] for row in rows if row and row[0].startswith("/")]
    yield from (Path(path) for path in paths if _is_socket(path))
    for folder in dict.fromkeys(os.path.dirname(path) for path in paths):  # noqa: PTH120 - may be any text
        yield from _sockets_in(folder)


def _sockets_in(folder: str) -> Iterator[Path]:
    with contextlib.suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in entries:
            common = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
            if not common and _is_socket(entry.path):
                yield Path(entry.path)


def _read() -> str:
    try:
        return _TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        message = f"which sockets other programs listen on cannot be read: {error.strerror}"
        raise ConfineError(message, hint="the command could use them; mount /proc whole") from error


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - may be any text
    except (OSError, ValueError):
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _visible(path: Path, kept: tuple[Path, ...]) -> bool:
    covered = any(Path(place) in path.parents for place in MEETING_PLACES)
    return not covered or any(place == path or place in path.parents for place in kept)


def _below(folder: Path, paths: set[Path]) -> set[Path]:
    return {path for path in paths if folder in path.parents}

"""Unix sockets of other programs that the command could still see, after the folders where most of them are emptied.

A socket that starts to listen later, outside those folders and the ones named here, is not found: docs/guides/exec.md
says so. Abstract sockets need nothing: they belong to a network namespace, and the command's has none but its own.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.confine.exec_mounts import MEETING_PLACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    text = _read() if table is None else table
    for line in text.splitlines():
        path = line.split(None, _FIELDS_BEFORE)[_FIELDS_BEFORE:]
        if path and path[0].startswith("/") and _is_socket(path[0]):
            yield Path(path[0])


def _read() -> str:
    try:
        return Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


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

"""Where else the same files are: one file system may be mounted at several places, and a cover lies over one of them.

1. a file system has a device number; a mount shows a part of it, by that part's root (proc(5), mountinfo)
2. the same part, what is above it, or a piece of it, may be mounted elsewhere: a bind mount, a subvolume, a chroot
3. what the table suggests counts only if it is the same inode: a mount may lie under another one
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A line's fields before the optional ones, which a dash ends; the kind of file system is the first behind it.
_DEVICE, _ROOT, _POINT = 2, 3, 4
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount: `root`, of the file system with the number `device`, is seen at `point`."""

    device: str
    root: Path
    point: Path
    kind: str


def mounts() -> list[Mounted]:
    """Those of this mount namespace. Raises OSError."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - of the kernel
        return read_mounts(file.read())


def read_mounts(text: str) -> list[Mounted]:
    """Those of a table, in its order."""
    found = []
    for line in text.split("\n"):
        stated, _, filesystem = line.partition(" - ")
        fields = stated.split(" ")
        if len(fields) > _POINT:
            root, point = (Path(_ESCAPED.sub(_character, fields[number])) for number in (_ROOT, _POINT))
            found.append(Mounted(fields[_DEVICE], root, point, filesystem.partition(" ")[0]))
    return found


def aliases(paths: Iterable[Path], known: Sequence[Mounted]) -> dict[Path, Path]:
    """The other paths by which one of `paths`, or a piece of it, is seen, and what is seen there.

    `paths` have no links in them.
    """
    protected = tuple(dict.fromkeys(paths))
    found = dict(pair for path in protected for pair in _of(path, known))
    return {alias: original for alias, original in found.items() if alias not in protected}


def _of(path: Path, known: Sequence[Mounted]) -> Iterator[tuple[Path, Path]]:
    # Which of the mounts on its way it is on does not matter: the inode tells.
    for own in known:
        if not _covers(own.point, path):
            continue
        inside = own.root / path.relative_to(own.point)
        for other in known:
            if other.device != own.device:
                continue
            if _covers(other.root, inside):
                alias, original = other.point / inside.relative_to(other.root), path
            elif _covers(inside, other.root):
                alias, original = other.point, path / other.root.relative_to(inside)
            else:
                continue
            if alias != original and _same(alias, original):
                yield alias, original


def _covers(folder: Path, path: Path) -> bool:
    return folder == path or folder in path.parents


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:
        # Who may not look, the command may not either.
        return False


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))

"""Files that steer the proxy: none of them may be one that the command could write. Looked at before, tried inside.

1. before   a file with another name (a hard link) could be written through that; a link in the way to it could be
            turned to another file. Neither is closed by mounts, so such a file is refused; so is a program that is
            looked for in a folder where the command could put another first, or that is nowhere yet
2. inside   after all privileges are dropped, writing is tried on each: what can be written ends the start
3. after    a cover over a file goes when somebody outside puts another file in its place (rename(2) detaches what is
            mounted there). Where its folder cannot be closed, no change counts while the command runs, and it is told
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.config.wording import printable
from egress.confine.exec_plan import ConfineError
from egress.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.confine.exec_plan import User

_OTHERS_WRITE: Final = stat.S_IWOTH
_GROUP_WRITE: Final = stat.S_IWGRP


def replaceable(paths: Iterable[Path], user: User) -> tuple[Problem, ...]:
    """What the command's user could put in the place of one of these files, in spite of read-only mounts."""
    problems = []
    for path in paths:
        name = printable(str(path))
        if link := _turnable_link(path, user):
            message = f"the command could turn the link `{printable(str(link))}` to another file"
            hint = f"name the file itself: `{printable(os.path.realpath(path))}`"
            problems.append(Problem(name, None, "", message, hint))
        state = path.stat()
        if state.st_nlink > 1 and stat.S_ISREG(state.st_mode) and _may_write(state, user):
            message = "this file has another name (a hard link), by which the command could change it"
            problems.append(Problem(name, None, "", message, "use a copy that has one name, or another user"))
    return tuple(problems)


def exchangeable(path: Path, user: User) -> bool:
    """Whether the user could write the file, or one that is put in its place."""
    return _may_write(path.stat(), user) or _may_write(path.parent.stat(), user)


def written_after(paths: Iterable[Path]) -> tuple[Problem, ...]:
    """What is wrong with watching files whose folder the command needs."""
    message = "with --watch the command could change the policy: it could write this file once you have replaced it"
    hint = "put it in a folder of its own, away from where the command works, or leave out --watch"
    return tuple(Problem(printable(str(path)), None, "", message, hint) for path in paths)


def identities(paths: Iterable[Path]) -> dict[Path, tuple[int, int] | None]:
    """Which file each is now. None: there is none."""
    return {path: _identity(path) for path in paths}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def shadowed(programs: Iterable[str], user: User) -> tuple[Problem, ...]:
    """Programs that the user could put another one in front of, by the PATH, or make where there is none."""
    problems = []
    for program in programs:
        open_to_it = next((place for place in _looked_at_before(program) if _may_put(place, user)), None)
        if open_to_it is not None:
            folder = printable(str(open_to_it.parent))
            message = f"the proxy looks for this program in `{folder}`, where the command could put another"
            found = shutil.which(program)
            hint = "install it, or leave the secret out" if found is None else f"write its whole path, `{found}`"
            problems.append(Problem(printable(program), None, "", message, hint))
    return tuple(problems)


def _looked_at_before(program: str) -> Iterator[Path]:
    """The places where it would be found rather than where it is; all, where it is nowhere: it may be asked again."""
    found = shutil.which(program)
    folders = [os.path.dirname(program)] if "/" in program else os.get_exec_path()  # noqa: PTH120 - may be empty
    for folder in folders:
        if found is not None and Path(folder) == Path(found).parent:
            return
        yield Path(folder, os.path.basename(program)).absolute()  # noqa: PTH119 - as above


def _may_put(place: Path, user: User) -> bool:
    return any(_may_write(_nearest(path).stat(), user) for path in (place, place.parent))


def _nearest(folder: Path) -> Path:
    # Not Path.exists, which raises for a folder that this user may not enter.
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110


def check_unwritable(paths: Iterable[Path]) -> None:
    """As the command's user, inside: try to write each. Raises ConfineError for one that can be."""
    for path in paths:
        if _writable(path):
            raise ConfineError(
                f"the command could write `{path}`, which the proxy reads",
                hint="put it where the command's user cannot write, or name another user with --user",
            )


def _writable(path: Path) -> bool:
    # Not Path.is_dir, which raises for a folder that this user may not enter.
    if os.path.isdir(path):  # noqa: PTH112
        return os.access(path, os.W_OK, effective_ids=True)
    try:
        # Opened, and nothing is written: what is there stays as it is.
        os.close(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _turnable_link(path: Path, user: User) -> Path | None:
    """The first link on the way whose folder the user may write to."""
    absolute = path.absolute()
    for place in (*reversed(absolute.parents), absolute):
        if place.is_symlink() and _may_write(place.parent.stat(), user):
            return place
    return None


def _may_write(state: os.stat_result, user: User) -> bool:
    if state.st_uid == user.uid:
        # Its owner can give itself the permission.
        return True
    # Who stays the same user keeps every group.
    groups = {user.gid} if user.change else {user.gid, *os.getgroups()}
    return bool(state.st_mode & _OTHERS_WRITE) or (state.st_gid in groups and bool(state.st_mode & _GROUP_WRITE))

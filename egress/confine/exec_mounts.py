"""What the command sees of the file system: the machine's, less what would be a way around the proxy or into it.

1. private    nothing mounted here shows outside
2. devices    /dev has null, zero, full, random, urandom, tty and terminals of its own, and no other device
3. meeting    /run, /tmp, /var/tmp and /dev/shm are empty and the command's own: sockets of other programs are made
   places     there (docker, D-Bus, ssh-agent, X11, tmux), also after the start. The working folder comes back
4. pinned     each folder on the way to what is protected is a mount point: it cannot be renamed, so that nothing else
              can be put in its place, for the next start to find
5. hidden     a folder is empty, a file has no content; both read-only
6. read-only  files that steer the proxy can be read and not written. A cover over a file goes when somebody outside
              puts another file in its place, as editors do: where it can be, the folder is read-only too
7. kernel     /proc is that of the command's own processes, and there is no other; /sys and control groups are
              read-only: a group can be ended or stopped whole, whatever its processes' namespaces
8. elsewhere  what is hidden, read-only or emptied is so by every path that leads to it (exec_aliases)

INVARIANT out-of-the-sandbox's-reach: none of it can be undone inside. The command has no capability in the user
namespace that owns these mounts; a mount namespace that it makes itself gets them locked together
(mount_namespaces(7), "Restrictions on mount namespaces").
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.confine.exec_aliases import aliases, mounts
from egress.confine.exec_kernel import (
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    make_read_only,
    mount,
)
from egress.confine.exec_plan import TRUST_FOLDER, ConfineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from egress.confine.exec_aliases import Mounted
    from egress.confine.exec_plan import User, View

# Emptied, with the modes of what is put in their place.
MEETING_PLACES: Final = {"/run": 0o755, "/tmp": 0o1777, "/var/tmp": 0o1777}  # noqa: S108 - they are what is meant
# Of /run, what whole systems are made of: NixOS has its programs there.
_ALWAYS_KEPT: Final = (Path("/run/current-system"), Path("/run/opengl-driver"), Path("/run/wrappers"))
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS: Final = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_PLAIN: Final = MS_NOSUID | MS_NODEV
# Of the machine's processes, terminals and devices: a chroot has them a second time.
_OF_THE_MACHINE: Final = frozenset({"proc", "devpts", "devtmpfs"})
_REPLACED: Final = (*map(Path, MEETING_PLACES), Path("/dev"), Path("/proc"))
# What steers the kernel, wherever it is mounted.
_STEERING: Final = frozenset({"sysfs", "cgroup", "cgroup2", "bpf"})


def build(view: View, user: User, trust: Mapping[str, bytes]) -> None:
    """Carry it out, in a mount and PID namespace that were just made. Raises OSError."""
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    machine = mounts()
    again = _seen_again(machine)
    kept = _opened((*view.kept, *_ALWAYS_KEPT, view.folder))
    places = [Path(place) for place in MEETING_PLACES if Path(place).is_dir() and not Path(place).is_symlink()]
    for place in places:
        _empty(place, MEETING_PLACES[str(place)])
    _devices()
    for path, descriptor in kept.items():
        if any(place in path.parents for place in places):
            _bring_back(path, descriptor)
        os.close(descriptor)
    _trust(trust)
    _runtime_folder(user)
    # With what was just brought back.
    known = mounts()
    hidden = [*view.hidden, *aliases(view.hidden, known), *again]
    read_only = [*view.read_only, *aliases(view.read_only, known), *view.closed, *aliases(view.closed, known)]
    for folder in pinned([path for path in (*hidden, *read_only) if _there(path)]):
        mount(str(folder), folder, flags=MS_BIND | MS_REC)
    for path in _outermost(read_only):
        if _there(path):
            mount(str(path), path, flags=MS_BIND | MS_REC)
            make_read_only(path)
    # After what is read-only: a file may be both, and is then hidden.
    for path in _outermost(hidden):
        if os.path.lexists(path):
            _hide(path)
    _close_kernel(machine)
    mount("proc", "/proc", "proc", _PLAIN | MS_NOEXEC)


def pinned(protected: Iterable[Path]) -> list[Path]:
    """Every folder on the way to what is protected, the outermost first."""
    folders = {folder for path in protected for folder in path.parents if folder != folder.parent}
    # Also one that looks like a mount point: a subvolume has a device number of its own, and can be renamed.
    return sorted(folders, key=lambda folder: len(folder.parts))


def _seen_again(machine: Sequence[Mounted]) -> list[Path]:
    """What is replaced here and would be seen at another place still. Before it is replaced."""
    # A piece of one, as a folder of /tmp is, was shown elsewhere by intent.
    found = [path for path, original in aliases(_REPLACED, machine).items() if original in _REPLACED]
    found += [one.point for one in machine if one.kind in _OF_THE_MACHINE]
    return [path for path in found if not any(place == path or place in path.parents for place in _REPLACED)]


def _close_kernel(machine: Iterable[Mounted]) -> None:
    system = Path("/sys")
    for one in machine:
        if one.kind in _STEERING or system == one.point or system in one.point.parents:
            _close(one.point)


def _close(point: Path) -> None:
    # One that lies under another is not there to be changed; what counts is what is seen.
    with contextlib.suppress(OSError):
        make_read_only(point)
    try:
        closed = os.statvfs(point).f_flag & os.ST_RDONLY
    except (PermissionError, FileNotFoundError):
        # Out of our reach, and so of the command's.
        return
    if not closed:
        raise ConfineError(f"`{point}` cannot be made read-only, and the command could steer the kernel by it")


def _there(path: Path) -> bool:
    # Not Path.exists, which raises for a folder that this user may not enter.
    return os.path.exists(path)  # noqa: PTH110


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without repetitions, a folder before what is in it."""
    return sorted(set(paths), key=lambda path: len(path.parts))


def _opened(paths: Iterable[Path]) -> dict[Path, int]:
    """A descriptor for each that is there: it leads to what is about to be covered."""
    found: dict[Path, int] = {}
    for path in _outermost(paths):
        if _there(path):
            found[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
    return found


def _empty(place: Path, mode: int) -> None:
    mount("tmpfs", place, "tmpfs", _PLAIN, f"mode={mode:o}")


def _bring_back(path: Path, descriptor: int) -> None:
    # What a kept folder holds is there with it.
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            path.mkdir()
        else:
            path.touch()
        mount(f"/proc/self/fd/{descriptor}", path, flags=MS_BIND | MS_REC)


def _devices() -> None:
    """A /dev of its own, put together in the fresh /tmp, since there is no other place yet, and moved."""
    staged = Path("/tmp/.dev")  # noqa: S108 - it is empty, and nobody else's
    staged.mkdir()
    mount("tmpfs", staged, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755")
    for name in _DEVICES:
        (staged / name).touch()
        mount(f"/dev/{name}", staged / name, flags=MS_BIND)
    for name, to in _DEVICE_LINKS.items():
        (staged / name).symlink_to(to)
    (staged / "pts").mkdir()
    mount("devpts", staged / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    (staged / "shm").mkdir()
    mount("tmpfs", staged / "shm", "tmpfs", _PLAIN, "mode=1777")
    make_read_only(staged)
    mount(str(staged), "/dev", flags=MS_MOVE)
    staged.rmdir()


def _trust(files: Mapping[str, bytes]) -> None:
    folder = Path(TRUST_FOLDER)
    folder.mkdir()
    _empty(folder, 0o755)
    for name, data in files.items():
        Path(name).write_bytes(data)
        Path(name).chmod(0o444)
    make_read_only(folder)


def _runtime_folder(user: User) -> None:
    """What XDG_RUNTIME_DIR names: there, empty, and the user's."""
    folder = Path(f"/run/user/{user.uid}")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    os.chown(folder, user.uid, user.gid)


def _hide(path: Path) -> None:
    if path.is_dir():
        _empty(path, 0o555)
        make_read_only(path)
    else:
        # Not a file of ours: a device that has nothing, whoever opens it, and however often.
        mount("/dev/null", path, flags=MS_BIND)
        make_read_only(path)

"""Reads what `listen` says of unix sockets, and `uid`, which tells the users at their other end.

1. a path is a file's: an abstract socket has no owner, no permissions and no folder that keeps others out
2. permissions stand in quotes: without them YAML reads `0660` as another number, or as text, as it likes
3. a user is a number: a name may mean another user in the container where the client runs
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from egress.config.fields import text, wrong
from egress.config.listening import UNIX_MARK, UnixListener
from egress.config.recorded import absolute
from egress.config.wording import did_you_mean, kind_of, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from egress.config.listening import ListenAddress

# The place in a list, what is wrong there, and what to write.
type Wrong = tuple[int, str, str]

_LIKE: Final = "`unix:/run/egress/proxy.sock`"
_KEYS: Final = ("unix", "mode")
_MODE: Final = re.compile(r"0?([0-7]{3})\Z")
_OWNER: Final = 0o600
_MODES: Final = 0o666
# `sockaddr_un.sun_path` has 108 bytes, and most clients want a zero at the end.
_LONGEST: Final = 107
# What the kernel shows for a user that it cannot name in this user namespace: anybody at all.
_OVERFLOW: Final = 65_534
_LAST: Final = 2**32 - 2


def is_unix(value: object) -> bool:
    """Whether this is written as a unix socket is."""
    return isinstance(value, dict) or (isinstance(value, str) and value.startswith(UNIX_MARK))


def read_unix(value: object) -> UnixListener:
    """`unix:PATH`, or `{unix: PATH, mode: "0660"}`; the path stays as it is written."""
    if not isinstance(value, dict):
        return UnixListener(_path(text(value).removeprefix(UNIX_MARK)))
    unknown = next((key for key in value if key not in _KEYS), None)
    if unknown is not None:
        raise wrong(f"unknown key {quoted(unknown)}", did_you_mean(str(unknown), _KEYS))
    if "unix" not in value:
        raise wrong("a mapping here is a unix socket, and needs its path", 'write `{unix: PATH, mode: "0660"}`')
    return UnixListener(_path(text(value["unix"])), _mode(value))


def read_uids(value: object) -> tuple[int, ...]:
    """One user's number, or several."""
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values:
        raise wrong("this list is empty, so nobody would be this sandbox", "write a number, as `id -u NAME` prints it")
    for number in values:
        problem = uid_problem(number)
        if problem:
            raise wrong(problem, "write a number, as `id -u NAME` prints it")
    return tuple(dict.fromkeys(int(number) for number in values))


def uid_problem(value: object) -> str:
    """Why this tells no user; empty: it does."""
    if not isinstance(value, int) or isinstance(value, bool):
        return f"should be a user's number, not {quoted(value) if isinstance(value, str) else kind_of(value)}"
    if value == _OVERFLOW:
        return f"{_OVERFLOW} is what the kernel calls every user that it cannot name here"
    return "" if 0 <= value <= _LAST else f"{quoted(value)} is no user's number"


def placed(listener: UnixListener, folder: Path) -> UnixListener:
    """With its path made absolute from a folder."""
    return UnixListener(str(absolute(folder / listener.path)), listener.mode)


def place_all(named: Sequence[ListenAddress], folder: Path) -> tuple[tuple[ListenAddress, ...], list[Wrong]]:
    """Every address to listen on, with its whole path; and what is wrong with which of them."""
    found = tuple(placed(address, folder) if isinstance(address, UnixListener) else address for address in named)
    wrong: list[Wrong] = []
    for index, address in enumerate(found):
        # Port 0 is another one each time.
        if (isinstance(address, UnixListener) or address[1]) and address in found[:index]:
            wrong.append((index, "this address stands here twice", "remove one of them"))
        if isinstance(address, UnixListener) and (size := len(os.fsencode(address.path))) > _LONGEST:
            message = f"the path has {size} bytes, and that of a socket has {_LONGEST} at most"
            wrong.append((index, message, "put it into a folder with a shorter path, as `/run/egress`"))
    return found, wrong


def _path(written: str) -> str:
    if not written or not written.isprintable() or written.endswith("/"):
        raise wrong(f"{quoted(written)} is not a path for a unix socket", f"write {_LIKE}")
    if written.startswith("@"):
        message = f"{quoted(written)} names an abstract socket, which everybody on this machine can take or reach"
        raise wrong(message, f"write {_LIKE}")
    if written.startswith("//") and not written.startswith("///"):
        raise wrong(f"{quoted(written)} names a host, and a unix socket is on none", f"write {_LIKE}")
    return f"/{written.lstrip('/')}" if written.startswith("/") else written


def _mode(value: Mapping[str, object]) -> int | None:
    if "mode" not in value:
        return None
    stated = value["mode"]
    found = _MODE.match(stated) if isinstance(stated, str) else None
    mode = None if found is None else int(found[1], 8)
    if mode is None or mode & ~_MODES or mode & _OWNER != _OWNER:
        shown = quoted(stated) if isinstance(stated, str) else kind_of(stated)
        message = f"mode: should be the permissions to connect, in quotes, not {shown}"
        raise wrong(message, 'write `"0600"`, `"0660"` or `"0666"`')
    return mode

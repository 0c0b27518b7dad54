"""Whom a confined command runs as: ourselves, or, where we are root, a user who is not."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Final

from egress.confine.exec_plan import ConfineError, User

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOBODY: Final = "nobody"


def user_for(wanted: str | None, env: Mapping[str, str], *, privileged: bool) -> User:
    """The user that is wanted (a name or number); None: who called sudo, else `nobody`. Raises ConfineError."""
    if not privileged:
        return _ourselves(wanted)
    found = _known(wanted or env.get("SUDO_UID") or _NOBODY)
    if found.pw_uid == 0:
        raise ConfineError(
            "a confined command is never root", hint="name another user, `--user NAME`; without one it is `nobody`"
        )
    return User(found.pw_uid, found.pw_gid, found.pw_name, found.pw_dir, change=True)


def _ourselves(wanted: str | None) -> User:
    uid = os.geteuid()
    try:
        found = pwd.getpwuid(uid)
        name, home = found.pw_name, found.pw_dir
    except KeyError:
        name, home = str(uid), os.environ.get("HOME", "/")
    if wanted not in {None, name, str(uid)}:
        raise ConfineError(
            f"only root can run a command as `{wanted}`", hint=f"leave out --user: the command runs as `{name}`"
        )
    return User(uid, os.getegid(), name, home, change=False)


def _known(wanted: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(wanted)) if wanted.isdecimal() else pwd.getpwnam(wanted)
    except (KeyError, OverflowError) as error:
        raise ConfineError(f"there is no user `{wanted}`", hint="name one that `getent passwd` lists") from error

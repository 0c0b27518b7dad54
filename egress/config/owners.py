"""Finds policy files that another user of the machine owns or could replace: a proxy that serves them refuses to start.

Who owns a file can change it whatever its mode says, and who owns a folder can put another file in its place. The
sandbox may run as that user, so only root and the proxy's own user are trusted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from egress.config.wording import printable
from egress.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable


def foreign_owners(paths: Iterable[Path], *, user: int | None = None) -> tuple[Problem, ...]:
    """What belongs to neither root nor `user` (None: this process's), on every way to each file, links included."""
    trusted = {0, os.geteuid() if user is None else user}
    found: dict[tuple[str, str], Problem] = {}
    for path in paths:
        for place in _places(path):
            owner = place.stat().st_uid
            if owner not in trusted:
                name = printable(str(path))
                what = "this file" if place.is_file() else f"the folder {printable(str(place))} on the way to it"
                hint = "move it, or make it belong to root or to the user that runs egress"
                found[name, what] = Problem(name, None, "", f"user {owner} owns {what} and can change it", hint)
    return tuple(found.values())


def _places(path: Path) -> Iterable[Path]:
    """The file and its folders, by the way that was named and by the way that links lead."""
    real = Path(os.path.realpath(path))
    return dict.fromkeys([real, *path.absolute().parents, *real.parents])

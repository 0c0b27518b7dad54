"""The folder of this user, below which the defaults of others lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping


def home(env: Mapping[str, str], instead: str) -> Path:
    """`$HOME`, else what the list of users says. `instead`: how to name what is looked for.

    Raises StateError where there is neither, as in a container that runs with any number of a user.
    """
    if env.get("HOME"):
        return Path(env["HOME"])
    try:
        return Path.home()
    except RuntimeError as error:
        message = f"this user has no home: HOME is not set, and the list of users has no number {os.geteuid()}"
        raise StateError(message, hint=f"set HOME, or {instead}") from error

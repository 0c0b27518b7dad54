"""Keeps the memory of a process that holds secrets out of core dumps, and from other processes of the same user.

A process that is not dumpable (prctl(2), PR_SET_DUMPABLE) leaves no core, cannot be traced by its own user, and its
`/proc/PID/environ`, `mem` and `maps` are root's. It holds for processes forked from it, not for programs they execute.
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from egress.errors import StateError

_PR_SET_DUMPABLE: Final = 4


def forbid_dumps() -> None:
    """Do it for this process, for good. Raises StateError if the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise StateError(f"cannot keep the memory of this process out of dumps: {reason}")

"""The three standard streams are there, whoever started the command.

A descriptor that the caller has closed would be that of the first file or socket that we open: what is printed, by a
confined command too, would be written into it.
"""

from __future__ import annotations

import os
import sys


def hold_streams() -> None:
    """Have /dev/null in place of each that is closed. Before anything else is opened."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115

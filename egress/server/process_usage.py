"""What a process of ours uses, as the kernel tells: processor seconds, memory, and when it began."""

from __future__ import annotations

import os
import resource
import time
from functools import cache
from pathlib import Path
from typing import Final

# Fields of /proc/PID/stat after the name in parentheses, which begin with the third (proc_pid_stat(5)).
_UTIME, _STIME, _THREADS, _START, _RSS = (number - 3 for number in (14, 15, 20, 22, 24))
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def usage(pid: int) -> dict[str, float]:
    """`cpu` and `started` in seconds, `rss` in bytes, `threads`; empty for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return {}
    return {
        "cpu": (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS,
        "rss": int(fields[_RSS]) * _PAGE,
        "threads": int(fields[_THREADS]),
        "started": _booted() + int(fields[_START]) / _TICKS,
    }


def open_files() -> tuple[int, int]:
    """How many descriptors this process has open, and how many it may have."""
    return len([*Path("/proc/self/fd").iterdir()]) - 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@cache
def _booted() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

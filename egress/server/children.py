"""Forking a process of ours: what it is given, what it must not keep, and how it ends.

A forked process has no handler, timer or event loop of its parent's; signals of a terminal or an orchestrator are the
supervisor's business, so it ignores them. It never returns into its parent's code.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from egress.credentials import redact_logs
from egress.server.channel import make_pair

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from egress.errors import EgressError
    from egress.gate.generation import Generation
    from egress.server.channel import Word

logger = logging.getLogger(__name__)

# Those that the supervisor acts on.
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_PR_SET_NAME: Final = 15


@dataclass(frozen=True, slots=True)
class Start:
    """What a process is given: its end of the channel to the supervisor, and the generation to begin with."""

    name: str
    control: socket.socket
    generation: Generation


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process: what it runs (the result is its exit status), and whether it judges by generations.

    `leave` closes, in the new process, what the supervisor has open and it must not keep.
    """

    main: Callable[[Start], int]
    leave: Callable[[], None]
    judges: bool = True


@dataclass(slots=True, eq=False)
class Child:
    """A running process. `said`: the newest number that came with each word. `failure`: why it could not start.

    `asked`: the number of the newest question for its status, `told`: that of the newest answer, and the answer.
    """

    name: str
    role: Role
    pid: int
    pidfd: int
    control: socket.socket
    started: float = field(default_factory=time.monotonic)
    said: dict[Word, int] = field(default_factory=dict)
    failure: EgressError | None = None
    asked: int = 0
    told: tuple[int, Mapping[str, Any]] = (0, {})

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """How it ended: its exit status, or minus the signal's number. Waits for it."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.control.close()
        return os.waitstatus_to_exitcode(status)


def fork(name: str, role: Role, generation: Generation) -> Child:
    """Start a process. Raises OSError if there can be no more."""
    ours, theirs = make_pair()
    sys.stderr.flush()
    # Until the new process ignores signals, one of them must not run a handler that it has from its parent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if not pid:
            _run(role, Start(name, theirs, generation), ours, before)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    try:
        return Child(name, role, pid, os.pidfd_open(pid), ours)
    except OSError:
        # Unwatched it must not stay.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
        raise


def _run(role: Role, start: Start, parents: socket.socket, mask: set[int | signal.Signals]) -> NoReturn:
    status = 1
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        parents.close()
        role.leave()
        redact_logs(start.generation.credentials.known)
        _show_name(start.name)
        status = role.main(start)
    except BaseException:
        logger.exception("the process `%s` failed", start.name)
    finally:
        logging.shutdown()
        os._exit(status)


def _show_name(name: str) -> None:
    """What `ps` and `top` show; the kernel keeps 15 characters."""
    # Not by /proc/self/comm: of a process that leaves no dumps, that file is root's.
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"egress {name}".encode("ascii"), 0, 0, 0)

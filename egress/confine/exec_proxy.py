"""The proxy of one confined command: a process of its own, outside of what the command sees, ended after it.

It has a session of its own, so that no key of a terminal reaches it, and nothing of our standard streams: whoever
reads the command's output sees its end when the command ends. What it logs goes to a file.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from egress.confine.exec_channel import Channel, Word
from egress.errors import EgressError, StartError
from egress.server.run import serve

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from egress.config import ServerConfig
    from egress.server.run import Started

LOG_NAME: Final = "proxy.log"
_END_SECONDS: Final = 10.0
_LONGEST_LOG: Final = 16 * 1024
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Given:
    """What the proxy is started with. `leave` closes, in its process, what is not its."""

    config: ServerConfig
    opened: Mapping[tuple[str, int], socket.socket]
    leave: Callable[[], None]
    set_up_logging: Callable[[], None]


class Proxy:
    """The running proxy. Raises the EgressError of one that cannot start."""

    def __init__(self, given: Given, log: Path) -> None:
        self._log = log
        self._told = 0
        ours, theirs = Channel.pair()
        sys.stderr.flush()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            _run(given, log, theirs, parent)
        theirs.close()
        self.pidfd = os.pidfd_open(self._pid)
        said = ours.receive()
        ours.close()
        if said is None or said[0] is Word.FAILED:
            os.waitpid(self._pid, 0)
            os.close(self.pidfd)
            raise said[1] if said is not None else StartError("the proxy ended as it started", hint=self.logged())
        self.started: dict[str, Any] = said[1]

    def end(self) -> bool:
        """Let it record what it has, and end it; whether it was there until now."""
        there = not select.select([self.pidfd], [], [], 0)[0]
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        if not select.select([self.pidfd], [], [], _END_SECONDS)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self.pidfd)
        return there

    def logged(self) -> str:
        """What it has logged since this was last asked."""
        try:
            with self._log.open(encoding="utf-8", errors="replace") as file:
                file.seek(self._told)
                text = file.read(_LONGEST_LOG)
                self._told = file.tell()
        except OSError:
            return ""
        return text


def _run(given: Given, log: Path, channel: Channel, parent: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        _end_with(parent)
        given.leave()
        _streams(log)
        given.set_up_logging()
        status = serve(given.config, lambda started: channel.send(Word.STARTED, _facts(started)), given.opened)
    except EgressError as error:
        channel.send(Word.FAILED, error)
    finally:
        os._exit(status)


def _end_with(parent: int) -> None:
    """Be told to end when the parent ends: recorded decisions are written before."""
    import ctypes  # noqa: PLC0415 - for this alone

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _streams(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    for descriptor, to in ((0, nothing), (1, nothing), (2, file)):
        os.dup2(to, descriptor)
    for descriptor in (nothing, file):
        os.close(descriptor)


def _facts(started: Started) -> dict[str, Any]:
    return {"bundle": started.bundle, "ca": started.ca, "listening": started.listening, "warning": started.warning}

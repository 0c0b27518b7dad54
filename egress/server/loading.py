"""Loading policy files beside the supervisor: a process of its own reads and compiles, and ends.

A large policy takes seconds to load. Meanwhile the supervisor does what it is there for: it starts again what dies,
takes signals, and answers on the control socket. What the process makes goes back through sealed memory, as it then
goes on to the processes that judge (see `generations`).
"""

from __future__ import annotations

import logging
import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.config.recorded import Record, recording
from egress.errors import ConfigError, EgressError
from egress.gate.build import load_generation
from egress.server.begin import stage
from egress.server.children import Child, Role, Start, fork
from egress.server.generations import encode_generation, fill, new_memory, read_memory
from egress.server.watch import add_unread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.config import ServerConfig
    from egress.server.events import Timer
    from egress.server.supervisor import Supervisor

logger = logging.getLogger(__name__)

_LOAD_SECONDS: Final = 300.0
_NAME: Final = "loader"


@dataclass(frozen=True, slots=True)
class Report:
    """What became of reading the files.

    `problems`: what keeps them from being used; empty: nothing. `fingerprints`: what tells of a change, of every file
    that was asked for.
    """

    problems: tuple[str, ...] = ()
    fingerprints: dict[Path, str | None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Running:
    child: Child
    generation: int
    report: int
    timer: Timer
    done: Callable[[Report, int], None]


class Loader:
    """Starts the process, one at a time. `leave` closes, in it, what of the supervisor's it must not keep."""

    def __init__(self, config: ServerConfig, supervisor: Supervisor, leave: Callable[[], None]) -> None:
        self._config = config
        self._supervisor = supervisor
        self._leave = leave
        self._running: _Running | None = None
        supervisor.closers.append(self._close_inherited)

    @property
    def running(self) -> bool:
        """Whether files are being read."""
        return self._running is not None

    def start(self, done: Callable[[Report, int], None]) -> None:
        """Read the files. `done` gets the report, and a descriptor of the generation, which is its to close.

        Raises OSError if there can be no more processes.
        """
        generation, report = new_memory(), new_memory()
        try:
            role = Role(lambda start: self._load(start, generation, report), self._leave, judges=False)
            child = fork(_NAME, role, self._supervisor.generation)
        except OSError:
            os.close(generation)
            os.close(report)
            raise
        timer = self._supervisor.events.later(_LOAD_SECONDS, child.kill)
        self._running = _Running(child, generation, report, timer, done)
        self._supervisor.events.watch(child.pidfd, self._ended)

    def stop(self) -> None:
        """End it, if it runs; nobody is told."""
        if self._running is not None:
            self._running.child.kill()
            running, _ = self._finish(self._running)
            os.close(running.generation)

    def _ended(self) -> None:
        if self._running is None:
            return
        running, report = self._finish(self._running)
        running.done(report, running.generation)

    def _finish(self, running: _Running) -> tuple[_Running, Report]:
        self._running = None
        self._supervisor.events.cancel(running.timer)
        self._supervisor.events.forget(running.child.pidfd)
        status = running.child.reap()
        report = Report(("the policy files could not be read; the proxy's log says why",))
        if status == 0:
            report = pickle.loads(read_memory(running.report))  # noqa: S301 - written by a process forked from this one
        elif status < 0:
            report = Report((f"reading the policy files was ended by signal {-status}",))
        os.close(running.report)
        return running, report

    def _close_inherited(self) -> None:
        """In a process that is forked while this one runs: it has no business with it."""
        running = self._running
        if running is not None:
            running.child.control.close()
            for descriptor in (running.child.pidfd, running.generation, running.report):
                os.close(descriptor)

    # in the new process

    def _load(self, start: Start, into: int, report: int) -> int:
        record = Record()
        problems: tuple[str, ...] = ()
        try:
            with recording(record):
                generation = load_generation(
                    self._config, os.environ, start.generation, registered=start.generation.registered
                )
            fill(into, encode_generation(generation))
            stage(self._config, generation, record)
            add_unread(record, generation.files)
        except EgressError as error:
            problems = told(error)
        fill(report, pickle.dumps(Report(problems, record.fingerprints)))
        return 0


def told(error: EgressError) -> tuple[str, ...]:
    """Every problem of an error, in a line each."""
    return tuple(str(problem) for problem in error.problems) if isinstance(error, ConfigError) else (str(error),)

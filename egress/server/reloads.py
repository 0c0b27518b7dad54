"""Reloads: when one is due, who waits for it, and what became of the last.

1. One at a time. Whoever asks before the files are read gets the result of that reading; who asks later, the next.
2. Files are read beside the supervisor (see `loading`), and put in force by it (see `reload`). Between the two the
   supervisor does its other work; while all processes take a new policy over, it restarts the hub alone.
3. Files that do not load change nothing, and everybody is told what is wrong with them.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from egress.audit import notes
from egress.errors import EgressError
from egress.server.begin import Begun, keep_staged
from egress.server.generations import read_generation
from egress.server.loading import Loader, Report
from egress.server.reload import put_in_force
from egress.server.watch import LOOK_SECONDS, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.config import ServerConfig
    from egress.gate.generation import Generation
    from egress.server.ca_renewal import CaRenewal
    from egress.server.supervisor import Supervisor

logger = logging.getLogger(__name__)


class _NotTakenOver(Exception):  # noqa: N818 - it is told as a refusal
    """The supervisor could not make its own copy of a generation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload. `before` and `after` are digests, the same where `problems` says why it was refused.

    `moment` is in seconds since the epoch.
    """

    moment: float
    before: str
    after: str
    number: int
    cut: int = 0
    problems: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "moment": self.moment,
            "done": not self.problems,
            "before": self.before,
            "after": self.after,
            "generation": self.number,
            "cut": self.cut,
            "problems": list(self.problems),
        }


class Reloads:
    """The reloads of one supervisor. `leave`: see `Loader`."""

    def __init__(self, config: ServerConfig, supervisor: Supervisor, begun: Begun, leave: Callable[[], None]) -> None:
        self.begun: Begun = begun
        self.loaded = time.time()
        self.last: Outcome | None = None
        # Reads the CA again; None: it stays as it was at the start.
        self.renewal: CaRenewal | None = None
        self._config = config
        self._supervisor = supervisor
        self._loader = Loader(config, supervisor, leave)
        self._watcher = Watcher(begun.record.fingerprints)
        self._wanted = False
        # Who is to be told of in the record, of the reload that is to come and of the one under way.
        self._wants: list[str] = []
        self._by: list[str] = []
        self._asking: list[Callable[[Outcome], None]] = []
        self._waiting: list[Callable[[Outcome], None]] = []
        self._read: tuple[Report, int] | None = None

    @property
    def watched(self) -> tuple[Path, ...]:
        """The files that are watched; none where watching is off."""
        return self._watcher.files if self._config.watch else ()

    def watch(self) -> None:
        """Begin to look at the files, once a second."""
        if self._config.watch:
            self._supervisor.events.later(LOOK_SECONDS, self._look)

    def want(self, who: str, done: Callable[[Outcome], None] | None = None) -> None:
        """Have the files read because somebody asks; `done` gets the outcome."""
        self._wanted = True
        self._wants.append(who)
        if done is not None:
            self._asking.append(done)

    def act(self) -> None:
        """Take the next step that is due. To be called between the supervisor's turns, never within one."""
        if self._read is not None:
            read, self._read = self._read, None
            self._conclude(*read)
        if self._supervisor.reload_wanted:
            self._supervisor.reload_wanted = False
            self.want("signal")
        if self._wanted and not self._loader.running:
            self._start()

    def stop(self) -> None:
        """Read nothing any more. Who waits is told that nothing was changed."""
        self._loader.stop()
        if self._read is not None:
            os.close(self._read[1])
            self._read = None
        self._waiting += self._asking
        self._asking = []
        self._tell(self._refused(("the proxy is stopping",)))

    def read_again(self) -> None:
        """What is being read now was begun under another generation: it is read again, for who waits for it too."""
        busy = self._loader.running or self._read is not None
        self._loader.stop()
        if self._read is not None:
            os.close(self._read[1])
            self._read = None
        if busy:
            self._wanted = True
            self._wants, self._by = [*self._by, *self._wants], []
            self._asking, self._waiting = [*self._waiting, *self._asking], []

    def changed(self, generation: Generation) -> None:
        """Another generation, of the same files, is in force."""
        self.begun = replace(self.begun, generation=generation)

    # one reload

    def _start(self) -> None:
        self._wanted = False
        self._by, self._wants = self._wants, []
        self._waiting, self._asking = self._asking, []
        try:
            self._loader.start(self._done)
        except OSError as error:
            self._refuse((f"no process can be started to read the files: {error.strerror}",))

    def _done(self, report: Report, descriptor: int) -> None:
        self._read = report, descriptor

    def _conclude(self, report: Report, descriptor: int) -> None:
        self._watcher.was_read(report.fingerprints, whole=not report.problems)
        try:
            problems = report.problems or self._renew()
            if problems:
                self._refuse(problems)
            else:
                self._put_in_force(descriptor)
        finally:
            os.close(descriptor)

    def _renew(self) -> tuple[str, ...]:
        """Take over the CA of today, before the other processes do; what keeps it from being used."""
        try:
            note = None if self.renewal is None else self.renewal.act()
        except EgressError as error:
            return (str(error),)
        if note is not None:
            logger.warning("reload: another CA signs from now on: %s", note.detail)
            self._supervisor.note(*note)
        return ()

    def _put_in_force(self, descriptor: int) -> None:
        supervisor, before = self._supervisor, self._supervisor.generation
        try:
            after, cut = put_in_force(supervisor, before.number + 1, descriptor, lambda: self._take_over(descriptor))
        except _NotTakenOver:
            self._refuse(("the new policy could not be taken over; the proxy's log says why",))
            return
        self.loaded = time.time()
        self.begun = Begun(after, self.begun.record)
        keep_staged(self._config)
        supervisor.note(*notes.reloaded(before.digest, after.digest, self._by, cut))
        logger.warning("reload: policy generation %d is in force, %d connections cut", after.number, cut)
        self._tell(Outcome(self.loaded, before.digest, after.digest, after.number, cut))

    def _take_over(self, descriptor: int) -> Generation:
        try:
            generation = read_generation(os.dup(descriptor))
        except Exception as error:
            logger.exception("a new policy could not be taken over")
            raise _NotTakenOver from error
        generation.credentials.keep_values_of(self._supervisor.generation.credentials)
        generation.credentials.scrub_environment(os.environ)
        return generation

    def _refuse(self, problems: tuple[str, ...]) -> None:
        logger.error("reload: the policy was kept, because its files do not load:\n%s", "\n".join(problems))
        outcome = self._refused(problems)
        self._supervisor.note(*notes.reload_refused(outcome.before, self._by, problems))
        self._tell(outcome)

    def _refused(self, problems: tuple[str, ...]) -> Outcome:
        kept = self._supervisor.generation
        return Outcome(time.time(), kept.digest, kept.digest, kept.number, problems=problems)

    def _tell(self, outcome: Outcome) -> None:
        self.last = outcome
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(outcome)

    def _look(self) -> None:
        busy = self._wanted or self._loader.running or self._read is not None
        if not busy and self._watcher.look():
            logger.warning("reload: the policy files have changed")
            self.want("files changed")
        self._supervisor.events.later(LOOK_SECONDS, self._look)
